package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// What errors are, for errors.Is.
var (
	// ErrLocked says that the lock is held, and that the request was not to wait.
	ErrLocked = errors.New("the lock is held")
	// ErrLost says that the lock or the work was lost: its session ended, could not be renewed in time, or it was taken
	// away by force. What it protects may be in other hands.
	ErrLost = errors.New("the lock or the work was lost")
	// ErrNotHeld says that the hold or the work has ended.
	ErrNotHeld = errors.New("not held: it has ended, or is another's")
	// ErrSession says that the session has ended on the server.
	ErrSession = errors.New("the session has ended")
	// ErrUnauthorized says that the server knows no such token, or that its scope does not reach so far.
	ErrUnauthorized = errors.New("not authorized")
	// ErrUnreachable says that the server could not be asked, or that its answer is none. The call may have had an effect.
	ErrUnreachable = errors.New("the server did not answer")
	// ErrClosed says that the client was closed.
	ErrClosed = errors.New("the client was closed")
	// ErrFailed says that the claimed work has failed, and that no further attempt is allowed.
	ErrFailed = errors.New("the work has failed for good")
	// ErrInvalid says that an argument means nothing.
	ErrInvalid = errors.New("invalid argument")
)

// Error is a refusal of the server's.
type Error struct {
	// Problem is the refusal's name, such as "invalid_request".
	Problem string
	// Detail says what is wrong, and what to do about it.
	Detail string
	// Status is the HTTP status.
	Status int
	// Code is the number that the error has in every language; 0 if it has none.
	Code int
	// Reason says why a lock or a work was lost.
	Reason string
	// Holders hold what was asked for.
	Holders []Holder
}

// Holder is one who holds a lock.
type Holder struct {
	Owner string
	Mode  string
	// For is how long it has been held.
	For time.Duration
}

// Error tells all that is known in one line.
func (e *Error) Error() string {
	text := "keylatch: " + strings.ReplaceAll(e.Problem, "_", " ") + ": " + e.Detail
	if len(e.Holders) > 0 {
		text += "; " + heldBy(e.Holders)
	}
	return text
}

func heldBy(holders []Holder) string {
	if len(holders) == 0 {
		return "held by a client that the server does not name"
	}
	var names []string
	for _, holder := range holders {
		names = append(names, fmt.Sprintf("%q", holder.Owner))
	}
	return "held by " + strings.Join(names, ", ")
}

// Unwrap is what the error is, for errors.Is.
func (e *Error) Unwrap() error {
	switch e.Problem {
	case "locked":
		return ErrLocked
	case "lease_lost", "claim_lost":
		return ErrLost
	case "not_held", "already_ended", "other_grant", "still_queued", "not_yours":
		return ErrNotHeld
	case "epoch_changed", "session_gone", "unknown_session":
		return ErrSession
	}
	if e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden {
		return ErrUnauthorized
	}
	return nil
}

// passing says whether the same call may succeed when it is made again.
func passing(err error) bool {
	var refused *Error
	if errors.As(err, &refused) {
		switch refused.Problem {
		case "quiet_period", "no_fences", "closing", "session_cut":
			return true
		}
		return false
	}
	return errors.Is(err, ErrUnreachable)
}

// refusal reads a problem document; what is none is taken for one all the same.
func refusal(status int, body []byte) error {
	var document struct {
		Type    string      `json:"type"`
		Detail  string      `json:"detail"`
		Code    int         `json:"code"`
		Reason  string      `json:"reason"`
		Holders []holderRow `json:"holders"`
	}
	_ = json.Unmarshal(body, &document)
	refused := &Error{
		Problem: strings.TrimPrefix(document.Type, "urn:keylatch:problem:"), Detail: document.Detail, Status: status,
		Code: document.Code, Reason: document.Reason, Holders: holdersOf(document.Holders),
	}
	if refused.Problem == "" {
		refused.Problem = "refused"
		refused.Detail = fmt.Sprintf("the server answered %d; is it a keylatch server?", status)
	}
	return refused
}

type holderRow struct {
	Owner  string `json:"owner"`
	Mode   string `json:"mode"`
	HeldMs int64  `json:"held_ms"`
}

func holdersOf(rows []holderRow) (holders []Holder) {
	for _, row := range rows {
		holders = append(holders, Holder{row.Owner, row.Mode, time.Duration(row.HeldMs) * time.Millisecond})
	}
	return holders
}
