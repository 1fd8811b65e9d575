//! Deliberate bugs, one at a time, that the simulator has to find. Without the feature `mutations`, which neither the
//! facade nor the server can switch on and a released package cannot be built with, every question here is answered with
//! no by the compiler.

macro_rules! mutations {
    ($($(#[doc = $words:literal])+ $name:ident,)+) => {
        /// A deliberate bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutation {
            $($(#[doc = $words])+ $name,)+
        }

        impl Mutation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// What is wrong, in words.
            pub const fn words(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($words),+),)+
                }
            }
        }
    };
}

mutations! {
    /// SYNCHRONIZE CACHE is answered without a flush.
    FlushLost,
    /// FUA is ignored.
    FuaIgnored,
    /// A disabled write cache is ignored.
    CacheOffIgnored,
    /// A durable write of several pieces is not flushed.
    PiecesNotFlushed,
    /// A failed write of the store is taken for done.
    StoreErrorSwallowed,
    /// The second piece of a write goes to the place of the first.
    PieceAtWrongOffset,
    /// A read begins one block too far.
    ReadOneBlockOff,
    /// WRITE SAME writes one block less.
    SameOneBlockShort,
    /// UNMAP begins one block too early.
    UnmapOneBlockEarly,
    /// COMPARE AND WRITE writes whatever it found.
    MiscompareIgnored,
    /// COMPARE AND WRITE does not have its range alone.
    CompareNotAlone,
    /// Reservations are not checked.
    ReservationNotChecked,
    /// What a nexus is to the reservations is never looked at again.
    StandingStale,
    /// A preempted nexus is not told.
    PreemptNotTold,
    /// Reservations that should survive a restart do not.
    AptplForgotten,
    /// Reservations survive a restart that nobody asked to keep.
    ReservationsKeptUnasked,
    /// A new nexus is not told that it is new.
    NewNexusNotTold,
    /// A unit attention is reported again and again.
    AttentionRepeated,
    /// A logical unit reset is not told.
    ResetNotTold,
    /// A changed write cache is not told.
    CacheChangeNotTold,
    /// ABORT TASK answers and aborts nothing.
    AbortIgnored,
    /// ABORT TASK answers before what the store is at work on has ended.
    AbortDoesNotWait,
    /// What the store is at work on for an aborted task keeps nobody else out.
    AbortedWritesGoOn,
    /// An aborted task is answered.
    AbortedTaskAnswered,
    /// The tasks of a session that ended go on.
    TasksOutliveSession,
    /// The residual count is one too high.
    ResidualOffByOne,
    /// An R2T asks for data one block too far.
    R2tAtWrongOffset,
    /// An R2T asks for more than MaxBurstLength.
    R2tPastBurst,
    /// The status number does not grow.
    StatSnStale,
    /// ExpCmdSN runs ahead of what came.
    ExpCmdSnAhead,
    /// The command window does not open again.
    WindowNeverOpens,
    /// A window that another initiator's reset opened is not told.
    WindowNotTold,
    /// A unit attention is lost with the aborted command that was to carry it.
    AttentionDropped,
    /// A wrong data digest is not noticed.
    DataDigestNotChecked,
    /// Data-In says a wrong offset.
    DataInAtWrongOffset,
    /// Data-In is longer than the initiator's segment.
    SegmentTooLong,
    /// A task is answered twice.
    AnsweredTwice,
    /// Commands for LUN 1 go to LUN 0.
    WrongLun,
    /// Everybody sees what one host group sees.
    ViewLeak,
    /// Reads do not wait for an initiator that does not take them.
    ReadsNotHeldBack,
    /// The worker asks for the data of all writes, however much is held already.
    WritesNotHeldBack,
    /// A command whose CmdSN is before ExpCmdSN is carried out.
    OldCmdSnTaken,
    /// A command whose CmdSN is after MaxCmdSN is carried out.
    CmdSnPastWindowTaken,
    /// Data for a transfer that was never asked for goes to the one that is outstanding.
    WrongTransferTaken,
    /// A ping that is not answered has no consequence.
    PingNeverTimesOut,
    /// A command number that never comes is waited for for ever.
    HoleNeverTimesOut,
    /// A connection is read from whatever waits to be sent on it.
    TransmitQueueNotBounded,
    /// Fibre Channel: the commands of a login that ended stay in the port's table.
    FcTasksKept,
    /// Fibre Channel: a unit attention whose answer was aborted is not told again.
    FcAttentionLost,
    /// Fibre Channel: the answer to an abort names another exchange.
    FcAbortNamesAnother,
    /// Fibre Channel: an abort is answered and aborts nothing.
    FcAbortDoesNothing,
    /// Fibre Channel: the residual count is one too high.
    FcResidualOffByOne,
    /// Fibre Channel: the relative offset of a sequence's data stays where it began.
    FcOffsetStays,
    /// Fibre Channel: sense data is left out of the response.
    FcSenseLeftOut,
    /// Fibre Channel: a login anew keeps the session of the one before.
    FcSessionKept,
    /// Fibre Channel: XFER_RDY is not sent again when it is asked for.
    FcReadyNotSentAgain,
    /// Fibre Channel: a response is not sent again when it is asked for.
    FcResponseNotSentAgain,
}

// It stands outside of this crate's package: in a release of the crate the feature does not compile.
#[cfg(feature = "mutations")]
#[path = "../../testkit/src/mutation_switch.rs"]
mod switch;

#[cfg(feature = "mutations")]
pub use switch::activate;

/// Whether this bug is there now.
#[inline(always)]
pub fn is_active(mutation: Mutation) -> bool {
    #[cfg(feature = "mutations")]
    return switch::active() == Some(mutation);
    #[cfg(not(feature = "mutations"))]
    {
        let _ = mutation;
        false
    }
}
