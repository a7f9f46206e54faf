package keylatch

// The crossings of claims; cgo_claims.h says what each function does.

/*
#include "cgo_claims.h"

#cgo nocallback claims_new
#cgo nocallback claims_free
#cgo noescape claims_force_release
#cgo nocallback claims_force_release
#cgo noescape claims_forget
#cgo nocallback claims_forget
#cgo noescape claimant_new
#cgo nocallback claimant_new
#cgo nocallback claimant_free
#cgo nocallback claimant_settle_below
#cgo nocallback claimant_renew
#cgo noescape claim_now
#cgo nocallback claim_now
#cgo noescape claim_submit
#cgo nocallback claim_submit
#cgo noescape claim_complete
#cgo nocallback claim_complete
#cgo noescape claim_progress
#cgo nocallback claim_progress
#cgo nocallback claim_renew
#cgo nocallback claim_cancel
#cgo nocallback claim_queue_new
#cgo nocallback claim_queue_fd
#cgo nocallback claim_queue_free
#cgo nocallback claim_queue_next
#cgo noescape claim_watch_new
#cgo nocallback claim_watch_new
#cgo nocallback claim_watch_fd
#cgo nocallback claim_watch_free
#cgo nocallback claim_watch_next
#cgo nocallback keylatch_text_free
*/
import "C"

import "time"

// resource is a key for C: its parts in one piece, and how long each is.
func resource(key *Key) (*C.char, C.claim_key) {
	bytes, _ := bytesOf(key.Bucket + key.Object + key.Version)
	parts := C.claim_key{
		bucket: C.uint32_t(len(key.Bucket)), object: C.uint32_t(len(key.Object)), version: C.uint32_t(len(key.Version)),
	}
	if key.versioned() {
		parts.has_version = 1
	}
	return bytes, parts
}

// fits fails for a key whose parts no number of C's can count.
func fits(key *Key) error {
	const most = 1 << 30
	if len(key.Bucket) > most || len(key.Object) > most || len(key.Version) > most {
		return &Error{Code: ErrInvalidKey, Message: "the key has more than a gigabyte; shorten it"}
	}
	return nil
}

// copied takes a text of C's over, and gives it back.
func copied(text *C.char) string {
	if text == nil {
		return ""
	}
	defer C.keylatch_text_free(text)
	return C.GoString(text)
}

func newClaims(o *ClaimsOptions) (handle, error) {
	answer := C.claims_new(C.keylatch_claims_options{
		retain_ns: nanoseconds(o.RetainFor), retain_count: C.uint64_t(o.RetainCount), ring: C.uint64_t(o.Ring),
		max_claimants: C.uint64_t(o.MaxClaimants), max_open: C.uint64_t(o.MaxOpen),
		max_waiters: C.uint64_t(o.MaxWaiters),
	})
	return handle(answer.number), problem(answer)
}

func freeClaims(claims handle) { C.claims_free(claims) }

func forceReleaseClaim(claims handle, key *Key) (bool, error) {
	bytes, parts := resource(key)
	answer := C.claims_force_release(claims, bytes, parts)
	return answer.number != 0, problem(answer)
}

func forgetClaim(claims handle, key *Key) (bool, error) {
	bytes, parts := resource(key)
	answer := C.claims_forget(claims, bytes, parts)
	return answer.number != 0, problem(answer)
}

func newClaimant(claims handle, name string, ttl time.Duration) (handle, error) {
	bytes, length := bytesOf(name)
	answer := C.claimant_new(claims, bytes, length, nanoseconds(ttl))
	return handle(answer.number), problem(answer)
}

func freeClaimant(claimant handle) { C.claimant_free(claimant) }

func settleBelow(claimant handle, number uint64) error {
	return ofClaimant(problem(C.claimant_settle_below(claimant, C.uint64_t(number))))
}

func renewClaimant(claimant handle) error { return ofClaimant(problem(C.claimant_renew(claimant))) }

// ofClaimant is an error of a claimant's call: one that was closed has no handle any more.
func ofClaimant(err error) error {
	if err == ErrClosed {
		return ErrSessionGone
	}
	return err
}

func policyOf(request *ClaimRequest) C.keylatch_claim_policy {
	policy := C.keylatch_claim_policy{
		lease_ns: nanoseconds(request.TTL), retry_after_ns: nanoseconds(request.RetryAfter),
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

func answerOf(came C.claim_answer) (ClaimAnswer, error) {
	if came.status != C.KEYLATCH_OK {
		return ClaimAnswer{}, ofClaimant(failure(came.status, came.failure))
	}
	from := &came.answer
	return ClaimAnswer{
		Kind: ClaimKind(from.kind), Fence: uint64(from.fence), Attempt: uint32(from.attempt),
		FirstInEpoch: from.first_in_epoch != 0, Ahead: uint64(from.ahead), Succeeded: from.succeeded != 0,
		Text: copied(from.text),
	}, nil
}

func claimNow(claimant handle, key *Key, number uint64, request *ClaimRequest) (ClaimAnswer, error) {
	bytes, parts := resource(key)
	return answerOf(C.claim_now(claimant, bytes, parts, C.uint64_t(number), policyOf(request)))
}

func submitClaim(claimant, queue handle, key *Key, number uint64, request *ClaimRequest, token uint64) error {
	bytes, parts := resource(key)
	return ofClaimant(problem(C.claim_submit(claimant, queue, bytes, parts, C.uint64_t(number), policyOf(request),
		C.uint64_t(token))))
}

func completeClaim(claimant handle, number, fence uint64, succeeded bool, text string) (ClaimAnswer, error) {
	bytes, length := bytesOf(text)
	var success C.int32_t
	if succeeded {
		success = 1
	}
	return answerOf(C.claim_complete(claimant, C.uint64_t(number), C.uint64_t(fence), success, bytes, length))
}

func progressClaim(claimant handle, number, fence uint64, progress *ClaimProgress) error {
	bytes, length := bytesOf(progress.Address)
	return ofClaimant(problem(C.claim_progress(claimant, C.uint64_t(number), C.uint64_t(fence),
		C.uint64_t(progress.Done), C.uint64_t(progress.Total), bytes, length)))
}

func renewClaim(claimant handle, number, fence uint64, ttl time.Duration) error {
	return ofClaimant(problem(C.claim_renew(claimant, C.uint64_t(number), C.uint64_t(fence), nanoseconds(ttl))))
}

func cancelClaim(claimant handle, number uint64) (ClaimAnswer, error) {
	return answerOf(C.claim_cancel(claimant, C.uint64_t(number)))
}

func newClaimQueue(claims handle) (queue handle, descriptor int, err error) {
	answer := C.claim_queue_new(claims)
	if err := problem(answer); err != nil {
		return 0, -1, err
	}
	queue = handle(answer.number)
	answer = C.claim_queue_fd(queue)
	return queue, int(answer.number), problem(answer)
}

func freeClaimQueue(queue handle) { C.claim_queue_free(queue) }

// fetchClaim takes the oldest answer of a queue; there is none if here is false.
func fetchClaim(queue handle) (token uint64, answer ClaimAnswer, here bool, err error) {
	came := C.claim_queue_next(queue)
	if came.status == C.KEYLATCH_EWOULDBLOCK || came.status == C.KEYLATCH_EHANDLE {
		C.glue_free(came.failure)
		return 0, ClaimAnswer{}, false, nil
	}
	answer, err = answerOf(came)
	return uint64(came.token), answer, true, err
}

func newClaimWatch(claims handle, key *Key, after ClaimEventID) (watch handle, descriptor int, err error) {
	bytes, parts := resource(key)
	answer := C.claim_watch_new(claims, bytes, parts, C.uint64_t(after.Epoch), C.uint64_t(after.Sequence))
	if err := problem(answer); err != nil {
		return 0, -1, err
	}
	watch = handle(answer.number)
	answer = C.claim_watch_fd(watch)
	return watch, int(answer.number), problem(answer)
}

func freeClaimWatch(watch handle) { C.claim_watch_free(watch) }

// fetchClaimEvent takes the next event; there is none if here is false.
func fetchClaimEvent(watch handle) (event ClaimEvent, here bool, err error) {
	came := C.claim_watch_next(watch)
	if came.status == C.KEYLATCH_EWOULDBLOCK {
		return ClaimEvent{}, false, nil
	}
	if came.status != C.KEYLATCH_OK {
		return ClaimEvent{}, false, failure(came.status, came.failure)
	}
	from := &came.event
	return ClaimEvent{
		Kind:  ClaimEventKind(from.kind),
		ID:    ClaimEventID{Epoch: uint64(from.epoch), Sequence: uint64(from.sequence)},
		Owner: copied(from.owner), Text: copied(from.text), Number: uint64(from.number), Fence: uint64(from.fence),
		Attempt: uint32(from.attempt), Done: uint64(from.done), Total: uint64(from.total),
		Waiting: uint64(from.waiting), HasOutcome: from.has_outcome != 0, Succeeded: from.succeeded != 0,
	}, true, nil
}
