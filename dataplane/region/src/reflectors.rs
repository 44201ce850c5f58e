//! UDP services that answer with more than they were asked.

/// Their ports, in order: DNS, NTP, SNMP, CLDAP, SSDP, memcached and their like.
pub const REFLECTORS: [u16; 24] = [
    17, 19, 53, 69, 111, 123, 137, 161, 177, 389, 427, 520, 1434, 1900, 3283, 3702, 5093, 5353, 5683, 10001,
    11211, 27015, 27960, 37810,
];

/// Whether a UDP port is one of [`REFLECTORS`].
#[inline]
pub fn is_reflector(port: u16) -> bool {
    REFLECTORS.binary_search(&port).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_in_order_so_that_each_is_found() {
        assert!(REFLECTORS.is_sorted());
        assert!(REFLECTORS.iter().all(|p| is_reflector(*p)));
        assert!(!is_reflector(0) && !is_reflector(443) && !is_reflector(65_535));
    }
}
