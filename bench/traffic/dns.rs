//! DNS messages (RFC 1035): a question for an address, and its answer.

/// Most records in an answer; the message stays within 512 bytes.
pub(crate) const RECORDS_MAX: u16 = 20;

const NAME: &[u8] = b"\x03www\x07example\x03net\x00";
const TYPE_A_CLASS_IN: [u8; 4] = [0, 1, 0, 1];

/// A question, or with `records` an answer of so many addresses.
pub(crate) fn message(id: u16, records: Option<u16>) -> Vec<u8> {
    let flags: u16 = if records.is_some() { 0x8180 } else { 0x0100 };
    let mut m = Vec::with_capacity(512);
    for field in [id, flags, 1, records.unwrap_or(0), 0, 0] {
        m.extend(field.to_be_bytes());
    }
    m.extend(NAME);
    m.extend(TYPE_A_CLASS_IN);
    for n in 0..records.unwrap_or(0) {
        m.extend([0xc0, 12]); // the name of the question
        m.extend(TYPE_A_CLASS_IN);
        m.extend(300u32.to_be_bytes()); // seconds to live
        m.extend([0, 4, 203, 0, 113, n.to_be_bytes()[1]]);
    }
    m
}
