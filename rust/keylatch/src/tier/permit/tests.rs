//! Steps of one permit, each on its own.

use super::*;

const PRESENT: Present = Present { term: Some(Term(0)), renewals: 0 };

fn id(raw: u64) -> PermitId {
    PermitId::from_raw(raw).expect("not 0")
}

fn view(first: Option<First>) -> View {
    View { free: true, written: false, first, closed: false, present: PRESENT }
}

fn writer() -> First {
    First { mode: Mode::Exclusive, tries: false, upgrades: false, alone: false }
}

fn asked() -> Permit {
    let mut permit = Permit::wish(id(1));
    let call = permit.next_call(&view(Some(writer())), || id(2));
    assert!(matches!(call, Some(Call::Ask { .. })), "{call:?}");
    permit.called();
    permit
}

fn granted(count: u32) -> Answer {
    Answer::Granted { fences: Fences { first: 1, count }, previous_died: false }
}

#[test]
fn loss_before_its_grant_voids_the_grant() {
    let mut permit = asked();
    assert!(permit.lose(id(2)));
    assert_eq!(permit.answered(id(2), granted(9), 0, 0), Outcome::Nothing);
    assert!(!permit.covers(Mode::Shared));
    let again = permit.next_call(&view(Some(writer())), || id(3));
    assert!(matches!(again, Some(Call::Ask { id: asked, .. }) if asked == id(3)), "{again:?}");
}

#[test]
fn death_goes_to_the_tier_before_others_share() {
    let mut permit = asked();
    let fences = Fences { first: 1, count: 9 };
    let answer = Answer::Granted { fences, previous_died: true };
    assert_eq!(permit.answered(id(2), answer, 0, 0), Outcome::Granted { fences, anew: true });
    permit.recall(id(2), Mode::Shared, 0);
    assert_eq!(permit.next_call(&view(None), || id(3)), Some(Call::Unreported(id(2))));
    // Who comes meanwhile would not be informed.
    assert_eq!((permit.allowed(0), permit.opens_to(None, false)), (Allowed::NOTHING, None));
    permit.called();
    assert_eq!(permit.allowed(0), Allowed::NOTHING);
    assert_eq!(permit.next_call(&view(Some(writer())), || id(3)), Some(Call::Downgrade(id(2))));
    permit.called();
    let asks = permit.next_call(&view(Some(writer())), || id(3));
    let replaced = Ended { id: id(2), unreported: false };
    assert!(matches!(asks, Some(Call::Ask { replaces: Some(ended), .. }) if ended == replaced), "{asks:?}");
}

#[test]
fn another_death_goes_to_the_tier_too() {
    let mut permit = asked();
    let _ = permit.answered(id(2), granted(9), 0, 0);
    permit.recall(id(2), Mode::Shared, 0);
    let read = View { free: false, ..view(None) };
    for _ in 0..2 {
        permit.follows_death();
        assert_eq!(permit.next_call(&read, || id(3)), Some(Call::Unreported(id(2))));
        assert!(permit.covers(Mode::Shared) && !permit.covers(Mode::Exclusive));
        permit.called();
    }
    assert_eq!(permit.next_call(&read, || id(3)), Some(Call::Downgrade(id(2))));
    assert!(permit.allowed(0).shared, "nothing is left to pass on");
}

#[test]
fn loss_after_its_end_changes_nothing() {
    let mut permit = asked();
    let fences = Fences { first: 1, count: 9 };
    assert_eq!(permit.answered(id(2), granted(9), 0, 0), Outcome::Granted { fences, anew: true });
    permit.dismiss(0);
    let ended = Ended { id: id(2), unreported: false };
    assert_eq!(permit.next_call(&view(None), || id(3)), Some(Call::GiveBack(ended)));
    assert!(!permit.lose(id(2)) && !permit.lose(id(1)));
    permit.called();
    assert!(permit.is_over());
}

#[test]
fn upgrade_brings_no_permit_anew() {
    let mut permit = asked();
    assert!(matches!(permit.answered(id(2), granted(1), 0, 0), Outcome::Granted { anew: true, .. }));
    for _ in 0..3 {
        // Its only fence is used, so it goes down and up again.
        permit.note_fence(true);
        let rises = View { free: false, ..view(Some(First { upgrades: true, alone: true, ..writer() })) };
        assert_eq!(permit.next_call(&rises, || id(3)), Some(Call::Downgrade(id(2))));
        permit.called();
        assert!(matches!(permit.next_call(&rises, || id(3)), Some(Call::Upgrade { .. })));
        permit.called();
        assert!(matches!(permit.answered(id(2), granted(1), 0, 0), Outcome::Granted { anew: false, .. }));
    }
}

#[test]
fn last_fence_ends_an_exclusive_permit_only() {
    let mut permit = asked();
    permit.note_fence(true);
    let _ = permit.answered(id(2), granted(9), 0, 0);
    assert_eq!(permit.opens_to(None, false), Some(Mode::Exclusive));
    permit.note_fence(true);
    assert_eq!((permit.opens_to(None, false), permit.allowed(0).left), (None, 0));
}

#[test]
fn ask_without_a_waiter_is_withdrawn() {
    let mut permit = asked();
    assert_eq!(permit.next_call(&view(None), || id(3)), Some(Call::Withdraw(id(2))));
    assert_eq!(permit.next_call(&view(None), || id(3)), None, "one call at a time");
    permit.called();
    assert_eq!(permit.next_call(&view(Some(writer())), || id(3)), None, "the answer comes first");
    permit.withdrawn(id(2));
    let again = permit.next_call(&view(Some(writer())), || id(3));
    assert!(matches!(again, Some(Call::Ask { id: asked, .. }) if asked == id(3)), "{again:?}");
}

#[test]
fn unwanted_loss_leaves_without_another_term() {
    let mut permit = asked();
    assert!(permit.lose_term(Term(0)));
    let nothing = View { present: Present { term: None, renewals: 0 }, ..view(Some(writer())) };
    assert_eq!(permit.next_call(&nothing, || id(3)), None);
    assert!(permit.is_lost(), "its waiter waits for another term");
    assert_eq!(permit.next_call(&View { first: None, ..nothing }, || id(3)), None);
    assert!(permit.is_over());
}
