//! Bugs that tests switch on, one at a time, to see that they are found. See docs/planted-bugs.md.
//!
//! Without the feature `planted-bugs`, which the test crate alone asks for, [`is_on`] is `false` at compile time and
//! nothing of this is in the program. With it a bug is on for the thread that planted it: the simulator runs a whole
//! market in one thread.

#[cfg(feature = "planted-bugs")]
use std::cell::Cell;

macro_rules! bugs {
    ($($name:ident $word:literal $about:literal),* $(,)?) => {
        /// What can be wrong on purpose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Bug { $(#[doc = $about] $name),* }

        impl Bug {
            /// All of them.
            pub const ALL: &[Bug] = &[$(Bug::$name),*];

            /// Its name in tables and arguments.
            pub fn word(self) -> &'static str {
                match self { $(Bug::$name => $word),* }
            }

            /// What is wrong.
            pub fn about(self) -> &'static str {
                match self { $(Bug::$name => $about),* }
            }
        }
    };
}

bugs! {
    // Own logs, and what leaves the device.
    OldIncarnation "old-incarnation" "A started process goes on under the incarnation of the one before.",
    CommitLater "commit-later" "Answers and frames leave, and the commit waits until there is more to write.",
    LazySync "lazy-sync" "A commit with a sale returns before the disk has it.",
    ErrorForgotten "error-forgotten" "After a failed commit the process goes on as if it had worked.",
    SharedStream "shared-stream" "The key stream of a sealed part doesn't depend on what it says.",
    // Pages and forks.
    UnsignedPage "unsigned-page" "The signature at a page's end isn't checked.",
    SequenceAlone "sequence-alone" "A page that begins after the head is taken without a look at the hash before it.",
    LaterFork "later-fork" "A forked log counts up to the latest proved fork, not the earliest.",
    ForkKept "fork-kept" "A fork that was found isn't told to anybody.",
    ProofUnverified "proof-unverified" "A fork proof is believed as it comes.",
    StandingForgotten "standing-forgotten" "A fork takes back what a checkpoint had named as standing.",
    ForkPosted "fork-posted" "Both histories of a forked log count.",
    // Membership.
    AnyGrant "any-grant" "A certificate may grant what its issuer hasn't.",
    AnyJudge "any-judge" "Any member may revoke any other.",
    LineIgnored "line-ignored" "What lies beyond a revocation's line counts.",
    RaiseIgnored "raise-ignored" "A raise changes nothing.",
    StrangerKept "stranger-kept" "Pages of whoever never was a member are kept.",
    AnyCheckpoint "any-checkpoint" "Checkpoints count whoever wrote them.",
    EpochUnfenced "epoch-unfenced" "A hub that starts again goes on in the epoch of the process before.",
    BlameBearer "blame-bearer" "Who brings an entry without effect is punished for it.",
    // Time.
    WallClock "wall-clock" "Trusted time is what the device's clock says.",
    ClockForgotten "clock-forgotten" "After a start nothing is known of the time before.",
    // Custody.
    CustodyWithoutKey "custody-without-key" "A carrier acknowledges sales whose key entry it doesn't hold.",
    CustodyOfAll "custody-of-all" "A carrier says that it holds a log from its first entry on.",
    CustodyWhenFull "custody-when-full" "A carrier without room says that it holds what it didn't take.",
    DropWaiting "drop-waiting" "A carrier makes room at the cost of what the hub hasn't.",
    DropAncestors "drop-ancestors" "An acknowledged interval frees all before it, too.",
    UnsignedWord "unsigned-word" "An acknowledgement counts whoever signed it.",
    HubHasAll "hub-has-all" "The hub acknowledges a log from its first entry on.",
    RestorationIgnored "restoration-ignored" "The word of a hub that has come back from an older copy still frees.",
    OrphansRefused "orphans-refused" "The hub takes no sales whose predecessors it lacks.",
    NoAnswer "no-answer" "What comes to a carrier goes no further.",
    ReadKeyAgain "read-key-again" "A stall's read key is made again whenever somebody asks whether there is one.",
    StopsSelling "stops-selling" "A device without a link to the hub refuses to sell.",
    // Views.
    FirstComes "first-comes" "Of two versions of a product the one that came first counts.",
    BehindView "behind-view" "What a stall changes of its catalog shows at others after their next start.",
    SoldAsItCame "sold-as-it-came" "A count of stock takes in what had arrived when it arrived, not what was sold before it.",
    StaleView "stale-view" "A view isn't built anew when a checkpoint, a line or a proof changes what stands.",
    // Promotions and conditions.
    WithdrawnGiven "withdrawn-given" "A promotion that was withdrawn is given on.",
    AnyGiver "any-giver" "A promotion on `control` is the market's, whoever wrote it.",
    ConditionKept "condition-kept" "What was said of the weather holds for ever.",
    LimitForgotten "limit-forgotten" "After a start nothing is known of how often a limited promotion was given.",
    AnnouncedAtOnce "announced-at-once" "A price that is announced for later is taken at once.",
    // Payments.
    AnyBlocker "any-blocker" "What any stall says of a card is the market's word.",
    AskPasses "ask-passes" "What a person should be asked about is taken.",
    DeclineConfirmed "decline-confirmed" "What is declined is taken where a person says so.",
    WaitingForgotten "waiting-forgotten" "After a start nothing is known of what was taken by card and waits.",
    VoidedWaits "voided-waits" "What was voided before it was recorded waits to be captured all the same.",
    PartTwice "part-twice" "A part of a payment that is sent twice is taken twice.",
    TipLost "tip-lost" "A tip is the market's.",
    // Payments on line.
    VoidUntold "void-untold" "The hub never hears that a payment which it was asked for is void.",
    SilenceApproves "silence-approves" "A hub that does not answer has approved.",
    PartialWhole "partial-whole" "A bank that holds less than was asked for holds all of it.",
    RecordsUnasked "records-unasked" "A sale whose caller is gone is recorded as soon as its card is approved.",
    AnsweredTwice "answered-twice" "The hub asks its gateway under another name each time it starts.",
    // Money.
    ShareOfAll "share-of-all" "The market pays the whole of its promotions, whatever its share.",
    EntryAlone "entry-alone" "A sale is posted once per entry, not once per sale id.",
    ArrivalOrder "arrival-order" "Of two entries of one sale the one that was read first is posted.",
    TaxKept "tax-kept" "A sale's tax is posted to its stall.",
    BatchWhole "batch-whole" "A batch publishes all that counts, not what is new.",
    ClosingForgotten "closing-forgotten" "A hub that starts again knows of no closing before.",
    FeeLost "fee-lost" "The market's fee is taken from a sale and written to no account.",
    FeeOfToday "fee-of-today" "A sale pays the fee that is in force when it is settled.",
}

#[cfg(feature = "planted-bugs")]
thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Switches a bug on for this thread, or all of them off.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether a bug is on.
#[cfg(feature = "planted-bugs")]
#[inline]
pub fn is_on(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether a bug is on: never, without the feature `planted-bugs`.
#[cfg(not(feature = "planted-bugs"))]
#[inline]
pub const fn is_on(_: Bug) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_bug_has_a_name_of_its_own_and_none_is_on() {
        let words: BTreeSet<&str> = Bug::ALL.iter().map(|bug| bug.word()).collect();
        assert_eq!(words.len(), Bug::ALL.len());
        assert!(Bug::ALL.iter().all(|bug| !is_on(*bug)));
    }
}
