//! Where each table lies. Both processes compute the same layout from the same capacities; its hash stands in the
//! header of each file, and sides that disagree refuse each other.

/// Raised whenever the meaning of a field changes without its place changing.
pub const LAYOUT_VERSION: u64 = 4;
/// Most workers one dataplane can have.
pub const WORKERS_MAX: usize = 64;
/// Most ports one dataplane can have.
pub const PORTS_MAX: usize = 64;

/// Sizes of the tables, chosen by the configuration when a file is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacities {
    /// Workers, at most [`WORKERS_MAX`].
    pub workers: u32,
    /// IPv4 host ids: `HostId`s below this number.
    pub hosts_v4: u32,
    /// IPv6 host slots, a power of two: `HostId`s from `hosts_v4` on.
    pub hosts_v6: u32,
    /// Enforced lock ranges for each family.
    pub locks: u32,
}

impl Capacities {
    /// All host ids.
    #[inline]
    pub const fn hosts(&self) -> u32 {
        self.hosts_v4 + self.hosts_v6
    }
}

/// A table inside a file. Made here alone, where the arithmetic is done that each use would repeat.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Bytes from the start of the file, a multiple of 64.
    pub(crate) offset: usize,
    /// Elements.
    pub(crate) count: usize,
    /// Bytes of an element.
    pub(crate) size: usize,
    /// Behind the last byte: offset + count * size, without overflow.
    pub(crate) end: usize,
}

impl Section {
    /// One `T` at the start of the file.
    pub(crate) const fn header<T>() -> Section {
        Section { offset: 0, count: 1, size: size_of::<T>(), end: size_of::<T>() }
    }
}

/// Lays tables out one after the other, each on a cache line of its own, and hashes what it lays.
#[derive(Debug)]
pub struct Planner {
    next: usize,
    hash: u64,
}

impl Planner {
    /// Starts behind a header of `header_bytes`.
    pub fn new(kind: &str, header_bytes: usize) -> Self {
        let mut p = Planner { next: header_bytes.next_multiple_of(4096), hash: 0xcbf2_9ce4_8422_2325 };
        p.mix(LAYOUT_VERSION);
        for b in kind.bytes() {
            p.mix(u64::from(b));
        }
        p.mix(header_bytes as u64);
        p
    }

    fn mix(&mut self, v: u64) {
        // FNV-1a (draft-eastlake-fnv), byte by byte: only has to differ when layouts differ.
        for b in v.to_le_bytes() {
            self.hash = (self.hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Adds a table of `count` elements of `T`.
    ///
    /// # Panics
    /// When the file would be larger than memory can be: capacities are bounded far below.
    pub fn table<T>(&mut self, count: usize) -> Section {
        const { assert!(align_of::<T>() <= 64) };
        let offset = self.next.next_multiple_of(64);
        let size = size_of::<T>();
        self.mix(offset as u64);
        self.mix(size as u64);
        self.mix(count as u64);
        let end = size.checked_mul(count).and_then(|bytes| bytes.checked_add(offset));
        assert!(end.is_some(), "{count} elements of {size} bytes from {offset} on");
        self.next = end.unwrap_or(offset);
        Section { offset, count, size, end: self.next }
    }

    /// Size of the file in bytes (whole 2 MiB pages, so that hugetlbfs takes it) and the layout's hash.
    pub fn finish(self) -> (usize, u64) {
        (self.next.next_multiple_of(2 << 20), self.hash)
    }
}
