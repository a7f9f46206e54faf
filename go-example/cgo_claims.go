package keylatch

// The calls of claims. Unlike those of locks they are seen by the race detector, for which each comes after every other
// one: a caller that gets an outcome may use what its work has left.

/*
#include "cgo_glue.h"

#cgo noescape keylatch_claim_force_release
#cgo nocallback keylatch_claim_force_release
#cgo noescape keylatch_claim_forget
#cgo nocallback keylatch_claim_forget
#cgo noescape keylatch_claimant_new
#cgo nocallback keylatch_claimant_new
#cgo noescape keylatch_claim
#cgo nocallback keylatch_claim
#cgo noescape keylatch_claim_queue_submit
#cgo nocallback keylatch_claim_queue_submit
#cgo noescape keylatch_claim_complete
#cgo nocallback keylatch_claim_complete
#cgo noescape keylatch_claim_progress
#cgo nocallback keylatch_claim_progress
#cgo noescape keylatch_claim_cancel
#cgo nocallback keylatch_claim_cancel
#cgo noescape keylatch_claim_queue_next
#cgo nocallback keylatch_claim_queue_next
#cgo noescape keylatch_claim_watch_next
#cgo nocallback keylatch_claim_watch_next
*/
import "C"

import (
	"runtime"
	"time"
)

// What the library makes, for [Claims], [Claimant] and [ClaimWatch].
type (
	claimsHandle   = *C.keylatch_claims
	claimantHandle = *C.keylatch_claimant
	claimQueue     = *C.keylatch_claim_queue
	claimWatch     = *C.keylatch_claim_watch
)

func newClaims(o *ClaimsOptions) (claims claimsHandle, err error) {
	options := C.keylatch_claims_options{
		struct_size: C.sizeof_keylatch_claims_options,
		retain_ns:   nanoseconds(o.RetainFor), retain_count: C.uint64_t(o.RetainCount), ring: C.uint64_t(o.Ring),
		max_claimants: C.uint64_t(o.MaxClaimants), max_open: C.uint64_t(o.MaxOpen),
		max_waiters: C.uint64_t(o.MaxWaiters),
	}
	err = onThread(func() C.int32_t { return C.keylatch_claims_new(&options, &claims) })
	return claims, err
}

func freeClaims(claims claimsHandle) { C.keylatch_claims_free(claims) }

func forceReleaseClaim(claims claimsHandle, key *Key) (bool, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	resource := pinnedKey(&pins, key)
	var fence C.uint64_t
	err := onThread(func() C.int32_t { return C.keylatch_claim_force_release(claims, &resource, &fence) })
	return fence != 0, err
}

func forgetClaim(claims claimsHandle, key *Key) (bool, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	resource := pinnedKey(&pins, key)
	var forgotten C.int32_t
	err := onThread(func() C.int32_t { return C.keylatch_claim_forget(claims, &resource, &forgotten) })
	return forgotten != 0, err
}

func newClaimant(claims claimsHandle, name string, ttl time.Duration) (claimant claimantHandle, err error) {
	bytes, length := bytesOf(name)
	err = onThread(func() C.int32_t {
		return C.keylatch_claimant_new(claims, bytes, length, nanoseconds(ttl), &claimant)
	})
	return claimant, err
}

func freeClaimant(claimant claimantHandle) { C.keylatch_claimant_free(claimant) }

// ofClaimant makes a call of a claimant's: one that was closed has no handle any more.
func ofClaimant(call func() C.int32_t) error {
	err := onThread(call)
	if err == ErrClosed {
		return ErrSessionGone
	}
	return err
}

func settleBelow(claimant claimantHandle, number uint64) error {
	return ofClaimant(func() C.int32_t { return C.keylatch_claimant_settle_below(claimant, C.uint64_t(number)) })
}

func renewClaimant(claimant claimantHandle) error {
	return ofClaimant(func() C.int32_t { return C.keylatch_claimant_renew(claimant) })
}

func policyOf(request *ClaimRequest) C.keylatch_claim_policy {
	policy := C.keylatch_claim_policy{
		struct_size: C.sizeof_keylatch_claim_policy,
		lease_ns:    nanoseconds(request.TTL), retry_after_ns: nanoseconds(request.RetryAfter),
		max_waiting: C.uint64_t(request.MaxWaiting), max_attempts: C.uint32_t(request.MaxAttempts),
	}
	if request.SkipIfClaimed {
		policy.flags |= C.KEYLATCH_CLAIM_SKIP_IF_CLAIMED
	}
	if request.LatestOnly {
		policy.flags |= C.KEYLATCH_CLAIM_LATEST_ONLY
	}
	return policy
}

// noAnswer is for the library to write an answer to.
var noAnswer = C.keylatch_claim_answer{struct_size: C.sizeof_keylatch_claim_answer}

func answerOf(from *C.keylatch_claim_answer, err error) (ClaimAnswer, error) {
	if err != nil {
		return ClaimAnswer{}, err
	}
	return ClaimAnswer{
		Kind: ClaimKind(from.kind), Fence: uint64(from.fence), Attempt: uint32(from.attempt),
		FirstInEpoch: from.first_in_epoch != 0, Ahead: uint64(from.ahead), Succeeded: from.succeeded != 0,
		Text: copied(from.text),
	}, nil
}

func claimNow(claimant claimantHandle, key *Key, number uint64, request *ClaimRequest) (ClaimAnswer, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	resource, policy := pinnedKey(&pins, key), policyOf(request)
	answer := noAnswer
	err := ofClaimant(func() C.int32_t {
		return C.keylatch_claim(claimant, &resource, C.uint64_t(number), 0, &policy, &answer)
	})
	return answerOf(&answer, err)
}

func submitClaim(
	claimant claimantHandle, queue claimQueue, key *Key, number uint64, request *ClaimRequest, token uint64,
) error {
	var pins runtime.Pinner
	defer pins.Unpin()
	resource, policy := pinnedKey(&pins, key), policyOf(request)
	return ofClaimant(func() C.int32_t {
		return C.keylatch_claim_queue_submit(claimant, &resource, C.uint64_t(number), C.uint64_t(waitForever), &policy, queue,
			C.uint64_t(token))
	})
}

func completeClaim(claimant claimantHandle, number, fence uint64, succeeded bool, text string) (ClaimAnswer, error) {
	bytes, length := bytesOf(text)
	var success C.int32_t
	if succeeded {
		success = 1
	}
	answer := noAnswer
	err := ofClaimant(func() C.int32_t {
		return C.keylatch_claim_complete(claimant, C.uint64_t(number), C.uint64_t(fence), success, bytes, length, &answer)
	})
	return answerOf(&answer, err)
}

func progressClaim(claimant claimantHandle, number, fence uint64, progress *ClaimProgress) error {
	bytes, length := bytesOf(progress.Address)
	return ofClaimant(func() C.int32_t {
		return C.keylatch_claim_progress(claimant, C.uint64_t(number), C.uint64_t(fence), C.uint64_t(progress.Done),
			C.uint64_t(progress.Total), bytes, length)
	})
}

func renewClaim(claimant claimantHandle, number, fence uint64, ttl time.Duration) error {
	return ofClaimant(func() C.int32_t {
		return C.keylatch_claim_renew(claimant, C.uint64_t(number), C.uint64_t(fence), nanoseconds(ttl))
	})
}

func cancelClaim(claimant claimantHandle, number uint64) (ClaimAnswer, error) {
	answer := noAnswer
	err := ofClaimant(func() C.int32_t { return C.keylatch_claim_cancel(claimant, C.uint64_t(number), &answer) })
	return answerOf(&answer, err)
}

func newClaimQueue(claims claimsHandle) (queue claimQueue, descriptor int, err error) {
	if err := onThread(func() C.int32_t { return C.keylatch_claim_queue_new(claims, &queue) }); err != nil {
		return nil, -1, err
	}
	var fd C.int32_t
	err = onThread(func() C.int32_t { return C.keylatch_claim_queue_fd(queue, &fd) })
	return queue, int(fd), err
}

func freeClaimQueue(queue claimQueue) { C.keylatch_claim_queue_free(queue) }

// fetchClaim takes the oldest answer of a queue; there is none if here is false.
func fetchClaim(queue claimQueue) (token uint64, answer ClaimAnswer, here bool, err error) {
	var of C.uint64_t
	from := noAnswer
	err = ofClaimant(func() C.int32_t {
		var outcome C.int32_t
		status := C.keylatch_claim_queue_next(queue, &of, &outcome, &from)
		here = status != C.KEYLATCH_EWOULDBLOCK && status != C.KEYLATCH_EHANDLE
		if !here || status == C.KEYLATCH_OK {
			return outcome
		}
		return status
	})
	answer, err = answerOf(&from, err)
	return uint64(of), answer, here, err
}

func newClaimWatch(claims claimsHandle, key *Key, after ClaimEventID) (watch claimWatch, descriptor int, err error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	resource := pinnedKey(&pins, key)
	err = onThread(func() C.int32_t {
		return C.keylatch_claim_watch_new(claims, &resource, C.uint64_t(after.Epoch), C.uint64_t(after.Sequence), &watch)
	})
	if err != nil {
		return nil, -1, err
	}
	var fd C.int32_t
	err = onThread(func() C.int32_t { return C.keylatch_claim_watch_fd(watch, &fd) })
	return watch, int(fd), err
}

func freeClaimWatch(watch claimWatch) { C.keylatch_claim_watch_free(watch) }

// fetchClaimEvent takes the next event; there is none if here is false.
func fetchClaimEvent(watch claimWatch) (event ClaimEvent, here bool, err error) {
	from := C.keylatch_claim_event{struct_size: C.sizeof_keylatch_claim_event}
	err = onThread(func() C.int32_t {
		status := C.keylatch_claim_watch_next(watch, &from)
		if here = status == C.KEYLATCH_OK; status == C.KEYLATCH_EWOULDBLOCK {
			return C.KEYLATCH_OK
		}
		return status
	})
	if !here {
		return ClaimEvent{}, false, err
	}
	return ClaimEvent{
		Kind:  ClaimEventKind(from.kind),
		ID:    ClaimEventID{Epoch: uint64(from.epoch), Sequence: uint64(from.sequence)},
		Owner: copied(from.owner), Text: copied(from.text), Number: uint64(from.number), Fence: uint64(from.fence),
		Attempt: uint32(from.attempt), Done: uint64(from.done), Total: uint64(from.total),
		Waiting: uint64(from.waiting), HasOutcome: from.has_outcome != 0, Succeeded: from.succeeded != 0,
	}, true, nil
}
