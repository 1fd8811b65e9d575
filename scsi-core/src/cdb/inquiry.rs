//! INQUIRY, REQUEST SENSE and REPORT LUNS: the commands that no unit attention stops.

use super::fields::cdb_struct;

cdb_struct! {
    /// INQUIRY.
    pub struct Inquiry (Inquiry) {
        /// EVPD: a vital product data page instead of the standard data.
        evpd: bool = bit((1, 0)),
        /// PAGE CODE; 0 without EVPD.
        page_code: u8 = be8(2),
        /// ALLOCATION LENGTH in bytes.
        allocation_length: u16 = be16(3),
    }
}

cdb_struct! {
    /// REQUEST SENSE.
    pub struct RequestSense (RequestSense) {
        /// DESC: descriptor format is asked for.
        descriptor_format: bool = bit((1, 0)),
        /// ALLOCATION LENGTH in bytes.
        allocation_length: u8 = be8(4),
    }
}

cdb_struct! {
    /// REPORT LUNS.
    pub struct ReportLuns (ReportLuns) {
        /// SELECT REPORT: 00h those addressed as peripheral or flat, 01h well known ones, 02h all, 10h to 12h
        /// administrative and subsidiary ones.
        select_report: u8 = be8(2),
        /// ALLOCATION LENGTH in bytes.
        allocation_length: u32 = be32(6),
    }
}
