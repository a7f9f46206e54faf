package main

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// What a request says has to be so before it changes anything (RFC 9110, section 13). It is looked at under the exclusive
// lock, against the version that the change comes after: no other change gets in between. For GET and HEAD net/http
// looks at it.

// conditions are those of a request that changes an object.
type conditions struct {
	match, noneMatch *tags
	// unmodified is a time after which there was no change; none if it is zero.
	unmodified time.Time
}

// tags are entity tags, each as it is between its quotes, or any.
type tags struct {
	any          bool
	strong, weak []string
}

// etag is a version's tag. No two versions of an object have one, even if they have the same bytes: a client that says
// If-Match wants to know that nothing was written meanwhile.
func etag(r record) string { return fmt.Sprintf("%d-%s", r.Number, r.SHA256) }

func conditionsOf(r *http.Request) (c conditions, err error) {
	if c.match, err = tagsOf(r, "If-Match"); err != nil {
		return c, err
	}
	if c.noneMatch, err = tagsOf(r, "If-None-Match"); err != nil {
		return c, err
	}
	if since := r.Header.Values("If-Unmodified-Since"); len(since) > 0 && c.match == nil {
		// Ignored as a date that is none should be, it would be taken to have been looked at.
		if c.unmodified, err = http.ParseTime(strings.Join(since, ", ")); err != nil {
			return c, &refusal{http.StatusBadRequest, "If-Unmodified-Since has no date"}
		}
	}
	return c, nil
}

// unconditional fails if a request has conditions where there is nothing that they could be about.
func unconditional(r *http.Request) error {
	for _, name := range []string{"If-Match", "If-None-Match", "If-Unmodified-Since"} {
		if len(r.Header.Values(name)) > 0 {
			return &refusal{http.StatusBadRequest, name + " is not looked at here: conditions are for single objects"}
		}
	}
	return nil
}

func tagsOf(r *http.Request, name string) (*tags, error) {
	values := r.Header.Values(name)
	if len(values) == 0 {
		return nil, nil
	}
	rest := strings.Trim(strings.Join(values, ","), " \t")
	if rest == "*" {
		return &tags{any: true}, nil
	}
	malformed := &refusal{http.StatusBadRequest, name + ` has to be * or entity tags, such as "7-ab12"`}
	found := new(tags)
	for rest != "" {
		if rest[0] == ',' {
			rest = strings.TrimLeft(rest[1:], " \t")
			continue
		}
		text, weak := strings.CutPrefix(rest, "W/")
		text, opens := strings.CutPrefix(text, `"`)
		tag, after, closes := strings.Cut(text, `"`)
		after = strings.TrimLeft(after, " \t")
		unquotable := strings.ContainsFunc(tag, func(c rune) bool { return c <= ' ' || c == 0x7f })
		if !opens || !closes || unquotable || after != "" && after[0] != ',' {
			return nil, malformed
		}
		if weak {
			found.weak = append(found.weak, tag)
		} else {
			found.strong = append(found.strong, tag)
		}
		rest = after
	}
	if len(found.strong)+len(found.weak) == 0 {
		return nil, malformed
	}
	return found, nil
}

// hold fails with errPrecondition unless the conditions, which may be nil, hold of what is there now, which may be nothing.
func (c *conditions) hold(now *record) error {
	has := func(among []string) bool {
		for _, tag := range among {
			if tag == etag(*now) {
				return true
			}
		}
		return false
	}
	switch {
	case c == nil:
		return nil
	case c.match != nil && (now == nil || !c.match.any && !has(c.match.strong)):
		return errPrecondition
	case !c.unmodified.IsZero() && now != nil && now.Time.Truncate(time.Second).After(c.unmodified):
		return errPrecondition
	case c.noneMatch != nil && now != nil && (c.noneMatch.any || has(c.noneMatch.strong) || has(c.noneMatch.weak)):
		return errPrecondition
	}
	return nil
}
