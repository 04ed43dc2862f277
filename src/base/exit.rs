//! Exit codes, after sysexits(3).

use std::process::ExitCode;

/// How the process ends. The codes stand in river(1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// It did what it was asked to do; also the end by SIGINT.
    Success,
    /// The command line or the environment says something that cannot be followed.
    Usage,
    /// Something outside is not there: an address is in use, nobody hands over, another instance is in service.
    Unavailable,
    /// A mistake in River itself, or the other instance did what it must not do.
    Software,
    /// A file cannot be made: the pidfile, the upgrade socket.
    CannotCreate,
    /// The hand-over did not come about; the incumbent serves on, and trying again may help.
    TryAgain,
    /// The configuration is wrong.
    Config,
}

impl Exit {
    /// Every way to end, by code.
    pub const ALL: [Self; 7] = [
        Self::Success,
        Self::Usage,
        Self::Unavailable,
        Self::Software,
        Self::CannotCreate,
        Self::TryAgain,
        Self::Config,
    ];

    /// The number that the parent process sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Usage => 64,
            Self::Unavailable => 69,
            Self::Software => 70,
            Self::CannotCreate => 73,
            Self::TryAgain => 75,
            Self::Config => 78,
        }
    }

    /// The way to end that has this number, if it is one of River's.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|exit| exit.code() == code)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
