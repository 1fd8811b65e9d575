//! LOG SENSE, LOG SELECT, SEND DIAGNOSTIC and RECEIVE DIAGNOSTIC RESULTS.

use super::fields::cdb_struct;

cdb_struct! {
    /// LOG SENSE.
    pub struct LogSense (LogSense) {
        /// SP: save the parameters too.
        save_parameters: bool = bit((1, 0)),
        /// PC: 0 threshold, 1 cumulative, 2 default threshold, 3 default cumulative values.
        page_control: u8 = bits((2, 6, 2)),
        /// PAGE CODE, six bits.
        page_code: u8 = bits((2, 0, 6)),
        /// SUBPAGE CODE.
        subpage_code: u8 = be8(3),
        /// PARAMETER POINTER: parameters from this code on.
        parameter_pointer: u16 = be16(5),
        /// ALLOCATION LENGTH in bytes.
        allocation_length: u16 = be16(7),
    }
}

cdb_struct! {
    /// LOG SELECT.
    pub struct LogSelect (LogSelect) {
        /// PCR: reset the parameters.
        parameter_code_reset: bool = bit((1, 1)),
        /// SP: save the parameters.
        save_parameters: bool = bit((1, 0)),
        /// PC: 0 threshold, 1 cumulative, 2 default threshold, 3 default cumulative values.
        page_control: u8 = bits((2, 6, 2)),
        /// PAGE CODE, six bits; only when no parameter list is sent.
        page_code: u8 = bits((2, 0, 6)),
        /// SUBPAGE CODE; only when no parameter list is sent.
        subpage_code: u8 = be8(3),
        /// PARAMETER LIST LENGTH in bytes.
        parameter_list_length: u16 = be16(7),
    }
}

cdb_struct! {
    /// SEND DIAGNOSTIC.
    pub struct SendDiagnostic (SendDiagnostic) {
        /// SELF-TEST CODE: 0 none, 1 background short, 2 background extended, 4 abort, 5 foreground short, 6 extended.
        self_test_code: u8 = bits((1, 5, 3)),
        /// PF: the parameter list is pages as SPC has them.
        page_format: bool = bit((1, 4)),
        /// SELFTEST: run the default self-test.
        self_test: bool = bit((1, 2)),
        /// DEVOFFL: the test may affect other logical units.
        device_offline: bool = bit((1, 1)),
        /// UNITOFFL: the test may affect this logical unit.
        unit_offline: bool = bit((1, 0)),
        /// PARAMETER LIST LENGTH in bytes.
        parameter_list_length: u16 = be16(3),
    }
}

cdb_struct! {
    /// RECEIVE DIAGNOSTIC RESULTS.
    pub struct ReceiveDiagnostic (ReceiveDiagnostic) {
        /// PCV: the page named by PAGE CODE is asked for.
        page_code_valid: bool = bit((1, 0)),
        /// PAGE CODE.
        page_code: u8 = be8(2),
        /// ALLOCATION LENGTH in bytes.
        allocation_length: u16 = be16(3),
    }
}
