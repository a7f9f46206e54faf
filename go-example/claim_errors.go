package keylatch

// What claims are refused with besides. The numbers are the same in every language.
const (
	// ErrNotYours is another name for [ErrNotHeld]: the work is not this request's, or has ended.
	ErrNotYours = ErrNotHeld
	// ErrLineFull is another name for [ErrTooManyWaiters].
	ErrLineFull = ErrTooManyWaiters
	// ErrSessionGone says that the claimant was closed, or that its ttl ran out.
	ErrSessionGone Code = -20
	// ErrEpochChanged says that the claims were started anew since the claimant was made.
	ErrEpochChanged Code = -21
	// ErrStaleRequest says that the request's number is settled already.
	ErrStaleRequest Code = -22
	// ErrNumberInUse says that the request's number is in use for another resource.
	ErrNumberInUse Code = -23
	// ErrTooManyOpen says that the claimant has as many open requests as it may have.
	ErrTooManyOpen Code = -24
	// ErrTooManyClaimants says that there are as many claimants as there may be.
	ErrTooManyClaimants Code = -25
)

func init() {
	meanings[ErrSessionGone] = "the claimant has ended"
	meanings[ErrEpochChanged] = "the claims were started anew"
	meanings[ErrStaleRequest] = "the request's number is settled"
	meanings[ErrNumberInUse] = "the request's number is in use for another resource"
	meanings[ErrTooManyOpen] = "the claimant has too many open requests"
	meanings[ErrTooManyClaimants] = "there are too many claimants"
}
