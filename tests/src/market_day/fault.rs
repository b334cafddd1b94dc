//! What goes wrong on a market day.

use super::dice::Dice;

/// A fault, as it strikes once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// Whom it strikes.
    pub device: usize,
    /// Who else.
    pub other: usize,
    /// How hard: a percentage, milliseconds, bytes, bits or writes.
    pub strength: u64,
    /// For whatever it draws itself.
    pub seed: u64,
}

macro_rules! kinds {
    ($($name:ident $word:literal $about:literal),* $(,)?) => {
        /// Kinds of faults.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind { $(#[doc = $about] $name),* }

        impl Kind {
            /// All of them.
            pub const ALL: &[Kind] = &[$(Kind::$name),*];

            /// Its name in tables.
            pub fn word(self) -> &'static str {
                match self { $(Kind::$name => $word),* }
            }
        }
    };
}

kinds! {
    Loss "loss" "Packets are lost, everywhere or between two nodes.",
    Latency "latency" "A road is slow to arrive, up to 30 s.",
    Clog "clog" "A road carries few bytes a second.",
    OneWay "one-way" "A road carries nothing in one direction.",
    Partition "partition" "The square falls apart into groups.",
    Ferry "ferry" "Two halves, with one device that walks between them.",
    Uplink "uplink" "A node's way to the hub goes, or comes and goes.",
    Kill "kill" "A process is killed, and starts again.",
    PowerCut "power-cut" "The power goes at some write; unsynced sectors survive one by one.",
    SecondCut "second-cut" "It goes again while the store recovers.",
    FailedSync "failed-sync" "The disk fails to sync, once.",
    DiskFull "disk-full" "The disk has no room.",
    BitRot "bit-rot" "Bits of a store flip while it is closed.",
    LyingDisk "lying-disk" "The disk says that it has synced, and hasn't; then the power goes.",
    Rollback "rollback" "A device comes back from an older copy of its disk.",
    Clone "clone" "A copy of a device's disk runs on a second machine.",
    ClockOff "clock-off" "A device's clock is off, by up to ten years.",
    ClockStill "clock-still" "A device's clock stands still.",
    Pause "pause" "A process stands still.",
    Burned "burned" "The hub's machine is gone with its keys; a new one is made from the root's and the recovery key.",
    Battery "battery" "A battery runs low, and then out: the device never returns.",
    Fork "fork" "A dishonest device writes two histories.",
    Garbage "garbage" "A dishonest member flips bits in what it sends.",
    Replay "replay" "A dishonest member sends again what it sent before.",
    Flood "flood" "A dishonest member sends everything twenty times.",
    Withhold "withhold" "A dishonest member keeps pages to itself.",
    ForgedAck "forged-ack" "A dishonest member says that the hub has everything.",
    FalseCustody "false-custody" "A dishonest member says that it holds what it lets fall.",
    Lies "lies" "A dishonest member signs what it may not say, and what says nothing.",
    TwoStories "two-stories" "Somebody who has the hub's key signs another checkpoint with a number that is taken.",
    Newer "newer" "A member speaks a newer version: fields and kinds that nobody knows.",
    Stranger "stranger" "Somebody without a certificate sends pages.",
}

impl Kind {
    /// The most times that it strikes on one day.
    pub fn most_often(self) -> u64 {
        match self {
            Kind::Battery | Kind::Fork | Kind::Clone | Kind::LyingDisk | Kind::BitRot => 2,
            Kind::Garbage | Kind::Replay | Kind::Flood | Kind::Withhold | Kind::ForgedAck => 2,
            Kind::FalseCustody | Kind::Newer | Kind::Stranger | Kind::Rollback | Kind::Lies => 2,
            Kind::TwoStories | Kind::Burned => 1,
            Kind::Kill | Kind::PowerCut => 8,
            _ => 4,
        }
    }

    /// Whether it comes and goes.
    pub fn flaps(self) -> bool {
        matches!(self, Kind::Uplink | Kind::Ferry)
    }

    pub(super) fn draw(self, dice: &mut Dice, devices: usize) -> Fault {
        let last = devices as u64 - 1;
        let anybody = |dice: &mut Dice| usize::try_from(dice.between(1, last)).unwrap_or(1);
        // The hub's own machine fails, too; but there is no market day without it.
        let machine = |dice: &mut Dice| usize::try_from(dice.between(0, last)).unwrap_or(1);
        let seller = |dice: &mut Dice| usize::try_from(dice.between(2, last)).unwrap_or(2);
        let device = match self {
            // Where sales are acknowledged is where a cut can cost one.
            Kind::PowerCut | Kind::SecondCut if dice.chance(60) => seller(dice),
            Kind::Kill
            | Kind::PowerCut
            | Kind::SecondCut
            | Kind::FailedSync
            | Kind::DiskFull
            | Kind::Pause
            | Kind::Loss
            | Kind::Latency
            | Kind::Clog
            | Kind::OneWay => machine(dice),
            Kind::Uplink => {
                if dice.chance(70) {
                    1
                } else {
                    anybody(dice)
                }
            }
            // A hub that comes back from an older copy gets its ledger and all sales back from others.
            Kind::Rollback if dice.chance(25) => 0,
            Kind::Rollback | Kind::Clone | Kind::Battery | Kind::Fork => seller(dice),
            _ => anybody(dice),
        };
        let strength = match self {
            Kind::Loss => dice.between(1, 40),
            Kind::Latency => dice.magnitude(10, 30_000),
            Kind::Clog => dice.magnitude(200, 50_000),
            Kind::Partition => dice.between(2, 4),
            Kind::PowerCut | Kind::SecondCut => dice.magnitude(1, 400),
            Kind::FailedSync => dice.between(0, 8),
            Kind::DiskFull => dice.magnitude(1, 1 << 20),
            Kind::BitRot => dice.between(1, 3),
            Kind::ClockOff => dice.magnitude(1_000, 10 * 365 * 86_400_000),
            Kind::Battery => dice.between(1, 20),
            _ => dice.between(0, 99),
        };
        Fault { kind: self, device, other: anybody(dice), strength, seed: dice.roll() }
    }
}

impl Fault {
    /// Whether it lasts until it is ended.
    pub fn ends(&self) -> bool {
        !matches!(
            self.kind,
            Kind::Battery | Kind::Stranger | Kind::Clone | Kind::Lies | Kind::TwoStories | Kind::Burned
        )
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} at node {} ({}, {})", self.kind.word(), self.device, self.other, self.strength)
    }
}
