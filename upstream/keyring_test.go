package upstream

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"nearside/catalog"
)

// begin is when the tests of keys take place.
var begin = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func ringOf(c Config, keys ...string) *Keyring {
	c.ID = "far"
	for i, k := range keys {
		if i == 0 {
			c.Key = NewSecret(k)
		} else {
			c.More = append(c.More, NewSecret(k))
		}
	}
	return newKeyring(c, nil)
}

// The windows are OpenClaw's, to the second: what is left alone for too short is
// hammered, for too long is missed.
func TestWindowsOfKeys(t *testing.T) {
	f := func(c Cooldown, reason KeyReason, want ...time.Duration) {
		t.Helper()
		for n, w := range want {
			if got := c.window(reason, n+1); got != w {
				t.Errorf("%s, failure %d in a row: %s, want %s", reason, n+1, got, w)
			}
		}
	}
	d := DefaultCooldown()
	for _, r := range []KeyReason{KeyRateLimit, KeyOverloaded, KeyUnknown} {
		f(d, r, 30*time.Second, time.Minute, 5*time.Minute, 5*time.Minute, 5*time.Minute)
	}
	f(d, KeyAuth, 5*time.Minute, 5*time.Minute, 5*time.Minute)
	f(d, KeyBilling, 5*time.Hour, 10*time.Hour, 20*time.Hour, 24*time.Hour, 24*time.Hour)
	f(d, KeyAuthPermanent, 10*time.Minute, 20*time.Minute, 40*time.Minute, time.Hour, time.Hour)
	open := d
	open.Refused = 0 // OpenClaw's own
	f(open, KeyAuth, 30*time.Second, time.Minute, 5*time.Minute)
	open.Billing, open.BillingMax = time.Second, 90*time.Second
	f(open, KeyBilling, time.Minute, 90*time.Second, 90*time.Second) // the floor
	open.BillingMax = time.Second
	f(open, KeyBilling, time.Minute, time.Minute)
	if got := d.window(KeyBilling, 1<<30); got != 24*time.Hour {
		t.Errorf("after very many failures: %s", got)
	}
}

// step is one thing that happens to a key, and for how long it is left alone
// after it; 0 when it is not.
type keyStep struct {
	at     time.Duration // since begin
	reason KeyReason     // of a failure; empty for a success
	wait   time.Duration // what the backend asked for
	left   time.Duration
}

// How windows follow each other: none is made longer while it stands, counts
// begin anew when all are over, and a success forgets everything.
func TestWindowsFollowEachOther(t *testing.T) {
	f := func(name string, steps ...keyStep) {
		t.Helper()
		r := ringOf(Config{}, "sk-secret-of-the-first")
		for i, s := range steps {
			now := begin.Add(s.at)
			if s.reason == "" {
				r.Succeed(0, "m")
			} else {
				r.Fail(0, KeyFailure{Reason: s.reason, RetryAfter: s.wait}, now)
			}
			var left time.Duration
			if w, cools := r.Cooling("m", now); cools {
				left = w.Until.Sub(now)
			}
			if left != s.left {
				t.Errorf("%s, step %d (%s at %s): left alone for %s, want %s", name, i+1, s.reason, s.at, left, s.left)
			}
		}
	}
	const s, m, h = time.Second, time.Minute, time.Hour
	f("a window that stands is not made longer", keyStep{0, KeyRateLimit, 0, 30 * s}, keyStep{10 * s, KeyRateLimit, 0, 20 * s}, keyStep{29 * s, KeyOverloaded, 60 * s, s})
	f("counts begin anew when it is over", keyStep{0, KeyRateLimit, 0, 30 * s}, keyStep{10 * s, KeyRateLimit, 0, 20 * s}, keyStep{30 * s, KeyRateLimit, 0, 30 * s})
	f("as long as another stands they go on", keyStep{0, KeyBilling, 0, 5 * h}, keyStep{s, KeyRateLimit, 0, 5*h - s},
		keyStep{5*h - 10*s, KeyRateLimit, 0, 5*m - 0}, keyStep{5 * h, KeyBilling, 0, 10 * h}, keyStep{5*h + 1*s, KeyBilling, 0, 10*h - s})
	f("a second reason counts the first", keyStep{0, KeyAuthPermanent, 0, 10 * m}, keyStep{9*m + 30*s, KeyRateLimit, 0, m}, keyStep{10*m + 29*s, KeyRateLimit, 0, s}, keyStep{10*m + 30*s, KeyRateLimit, 0, 30 * s})
	f("a success forgets", keyStep{0, KeyBilling, 0, 5 * h}, keyStep{s, "", 0, 0}, keyStep{2 * s, KeyBilling, 0, 5 * h})
	f("a backend that asks for longer gets it", keyStep{0, KeyRateLimit, 90 * s, 90 * s}, keyStep{90 * s, KeyRateLimit, 5 * s, 30 * s})
	f("a refusal", keyStep{0, KeyAuth, 0, 5 * m}, keyStep{5 * m, "", 0, 0})

	// After a day without a failure the next one is the first, though a window
	// stands.
	c := DefaultCooldown()
	c.Billing, c.BillingMax = 48*h, 96*h
	r := ringOf(Config{Cooldown: c}, "sk-secret-of-the-first")
	r.Fail(0, KeyFailure{Reason: KeyBilling}, begin)
	r.Fail(0, KeyFailure{Reason: KeyRateLimit}, begin.Add(24*h))
	if w := r.Status(begin.Add(24 * h)); r.keys[0].cool.until.Sub(begin) != 24*h+m {
		t.Errorf("a failure after 24 h is the second: %v %v", w, r.keys[0].cool)
	}
	r = ringOf(Config{Cooldown: c}, "sk-secret-of-the-first")
	r.Fail(0, KeyFailure{Reason: KeyBilling}, begin)
	r.Fail(0, KeyFailure{Reason: KeyRateLimit}, begin.Add(24*h+1))
	if r.keys[0].cool.until.Sub(begin) != 24*h+30*s+1 {
		t.Errorf("a failure after more than 24 h is the first: %v", r.keys[0].cool)
	}
}

// A rate limit is the model's: others of the key may be used, until one of them
// fails as well.
func TestRateLimitsAreTheModels(t *testing.T) {
	r := ringOf(Config{}, "sk-secret-of-the-first")
	now := begin
	picks := func(what string, want ...int) {
		t.Helper()
		for i, model := range []string{"a", "b", "c"} {
			if got := r.Pick(model, -1, 0, now); got != want[i] {
				t.Errorf("%s: model %s gets key %d, want %d", what, model, got, want[i])
			}
		}
	}
	limited := func(model string) KeyFailure { return KeyFailure{Reason: KeyRateLimit, Model: model, Scoped: true} }
	r.Fail(0, limited("a"), now)
	picks("a is limited", -1, 0, 0)
	r.Fail(0, limited("a"), now)
	picks("a again", -1, 0, 0)
	r.Fail(0, limited("b"), now)
	picks("b as well", -1, -1, -1)
	now = now.Add(30 * time.Second)
	picks("it is over", 0, 0, 0)
	r.Fail(0, limited("b"), now)
	picks("b alone", 0, -1, 0)
	r.Fail(0, KeyFailure{Reason: KeyOverloaded, Model: "b"}, now)
	picks("b, and it is no limit", -1, -1, -1)
	r.Succeed(0, "a")
	picks("it served", 0, 0, 0)
	r.Fail(0, limited("b"), now)
	r.Succeed(0, "a")
	picks("it served a, which tells nothing of b", 0, -1, 0)
	r.Succeed(0, "b")
	picks("it served b", 0, 0, 0)
	r.Fail(0, KeyFailure{Reason: KeyBilling, Model: "a", Scoped: true}, now)
	picks("money is everybody's", -1, -1, -1)
}

// Keys are used in their order; one that is preferred goes first, as long as it
// may be used, and one that was tried does not come again.
func TestPicks(t *testing.T) {
	r := ringOf(Config{}, "sk-secret-of-the-first", "sk-secret-of-the-second", "sk-secret-of-a-third")
	f := func(what string, prefer int, tried uint64, want int) {
		t.Helper()
		if got := r.Pick("m", prefer, tried, begin); got != want {
			t.Errorf("%s: key %d, want %d", what, got, want)
		}
	}
	f("nothing is known", -1, 0, 0)
	f("the third is preferred", 2, 0, 2)
	f("and was tried", 2, 1<<2, 0)
	f("all were", 1, 7, -1)
	r.Fail(0, KeyFailure{Reason: KeyAuth}, begin)
	f("the first was refused", -1, 0, 1)
	f("and is preferred", 0, 0, 1)
	if _, cools := r.Cooling("m", begin); cools {
		t.Error("two keys are left and the ring cools")
	}
	r.Fail(1, KeyFailure{Reason: KeyBilling}, begin)
	r.Fail(2, KeyFailure{Reason: KeyRateLimit}, begin)
	f("none is left", -1, 0, -1)
	if w, cools := r.Cooling("m", begin); !cools || w.Key != 2 || w.Reason != KeyRateLimit {
		t.Errorf("the window most worth a try is that of the limit: %v %v", w, cools)
	}
	got := fmt.Sprint(r.Status(begin))
	for _, want := range []string{"key 1 (…irst) cooling_down auth", "key 2 (…cond) disabled billing", "key 3 (…hird) cooling_down rate_limit"} {
		if !strings.Contains(got, want) {
			t.Errorf("status %s\nlacks %q", got, want)
		}
	}
	if strings.Contains(got, "sk-secret") {
		t.Errorf("the status shows a key: %s", got)
	}
	if got := ringOf(Config{}, "short-key").Label(0); got != "key 1" {
		t.Errorf("a short key is shown by its end: %q", got)
	}
}

// A window is tried shortly before it ends, seldom, and never while the backend
// itself asked to be left alone.
func TestWindowsAreTriedBeforeTheyEnd(t *testing.T) {
	r := ringOf(Config{}, "sk-secret-of-the-first")
	w, began := r.Fail(0, KeyFailure{Reason: KeyBilling}, begin)
	if !began || w.Until != begin.Add(5*time.Hour) {
		t.Fatalf("window %v, began %v", w, began)
	}
	for at, want := range map[time.Duration]bool{0: false, 5*time.Hour - 2*time.Minute - 1: false, 5*time.Hour - 2*time.Minute: true, 5 * time.Hour: true} {
		if got := r.Due(w, begin.Add(at)); got != want {
			t.Errorf("%s into a window of 5 h: due %v, want %v", at, got, want)
		}
	}
	for i, want := range []bool{true, false, false, true, false} { // every 10 s
		now := begin.Add(time.Duration(i) * 10 * time.Second)
		if open := r.Probable(now); open != want || r.Probe(now) != want {
			t.Errorf("%d s after the first try: open %v, want %v", i*10, open, want)
		}
	}
	asked := ringOf(Config{}, "sk-secret-of-the-first")
	w, _ = asked.Fail(0, KeyFailure{Reason: KeyRateLimit, RetryAfter: 20 * time.Second}, begin)
	if asked.Due(w, begin.Add(19*time.Second)) || !asked.Due(w, begin.Add(20*time.Second)) || w.Until != begin.Add(30*time.Second) {
		t.Errorf("a backend that asked for 20 s: %v", w)
	}
}

// Routers between providers are never left alone: what one of those behind them
// refused says nothing of the next request.
func TestRoutersNeverCoolDown(t *testing.T) {
	for _, c := range []Config{{ID: "openrouter"}, {ID: "kilocode"}, {ID: "mine", Kind: catalog.KindOpenRouter}} {
		c.Key = NewSecret("sk-secret-of-the-first")
		r := newKeyring(c, nil)
		for _, reason := range []KeyReason{KeyRateLimit, KeyBilling, KeyAuth, KeyAuthPermanent} {
			if w, _ := r.Fail(0, KeyFailure{Reason: reason, RetryAfter: time.Minute}, begin); !w.Until.IsZero() {
				t.Errorf("%s: %s leaves the key alone until %s", c.ID, reason, w.Until)
			}
		}
		if r.Pick("m", -1, 0, begin) != 0 {
			t.Errorf("%s cools down", c.ID)
		}
	}
}

// A reload keeps what is known of a key, wherever it stands now; a new key is
// new, and a refused one may have been mended where it lies.
func TestReloadKeepsWhatIsKnownOfKeys(t *testing.T) {
	now := begin
	p := NewPool(Options{Now: func() time.Time { return now }})
	of := func(keys ...string) *Keyring {
		c := Config{ID: "far", BaseURL: "http://127.0.0.1:1/v1", Key: NewSecret(keys[0])}
		for _, k := range keys[1:] {
			c.More = append(c.More, NewSecret(k))
		}
		p.Apply([]Config{c})
		b, err := p.Backend(&catalog.Model{Provider: &catalog.Provider{ID: "far"}, ID: "m", BaseURL: c.BaseURL})
		if err != nil {
			t.Fatal(err)
		}
		return b.Keys()
	}
	first, second, third := "sk-secret-of-the-first", "sk-secret-of-the-second", "sk-secret-of-a-third"
	r := of(first, second)
	r.Fail(0, KeyFailure{Reason: KeyRateLimit}, now)
	r.Fail(1, KeyFailure{Reason: KeyAuth}, now)
	if again := of(first, second); again != r {
		t.Error("the same keys make another keyring")
	}
	r = of(second, third, first)
	if got := r.Pick("m", -1, 0, now); got != 1 {
		t.Errorf("key %d is picked, want the new one", got+1)
	}
	if got := r.Pick("m", -1, 1<<1, now); got != -1 {
		t.Errorf("key %d is picked, which cooled before the reload", got+1)
	}
	p.ForgiveKeys()
	if got := r.Pick("m", -1, 1<<1, now); got != 0 {
		t.Errorf("key %d is picked, want the refused one", got+1)
	}
	if n := len(p.EachKey()); n != 3 {
		t.Errorf("%d keys, want 3", n)
	}
	p.Apply(nil)
	if n := len(p.EachKey()); n != 0 {
		t.Errorf("%d keys of a provider that is gone", n)
	}
}

// Every key goes where the credential goes, and none is repeated.
func TestEveryKeyHasItsHead(t *testing.T) {
	p := NewPool(Options{})
	f := func(c Config, want ...string) {
		t.Helper()
		c.ID, c.BaseURL = "far", "http://127.0.0.1:1/v1"
		p.Apply([]Config{c})
		b, err := p.Backend(&catalog.Model{Provider: &catalog.Provider{ID: "far"}, ID: "m", BaseURL: c.BaseURL})
		if err != nil {
			t.Fatal(err)
		}
		if len(b.fixed) != max(1, b.Keys().Len()) || len(want) != len(b.fixed) {
			t.Fatalf("%d heads, %d keys, want %d", len(b.fixed), b.Keys().Len(), len(want))
		}
		for i, line := range want {
			head := string(b.appendHead(nil, &Request{Path: "/x", Key: i}))
			if line != "" && !strings.Contains(head, "\r\n"+line+"\r\n") {
				t.Errorf("key %d: no line %q in\n%s", i+1, line, head)
			}
		}
		for _, k := range append([]Secret{c.Key, c.Auth.Secret}, c.More...) {
			if text := k.Reveal(); len(text) >= maskMin && strings.Contains(b.Mask("the key "+text+" is bad"), text) {
				t.Errorf("%s is not masked", text)
			}
		}
	}
	one, two := NewSecret("secret-of-the-first"), NewSecret("secret-of-another")
	f(Config{Key: one, More: []Secret{two, one, two}}, "Authorization: Bearer secret-of-the-first", "Authorization: Bearer secret-of-another")
	f(Config{Key: one, More: []Secret{two}, API: catalog.Messages}, "X-Api-Key: secret-of-the-first", "X-Api-Key: secret-of-another")
	f(Config{Key: one, Auth: Auth{Mode: "header", Header: "X-Key", Prefix: "k ", Secret: two}, More: []Secret{one}}, "X-Key: k secret-of-another", "X-Key: k secret-of-the-first")
	f(Config{Headers: []catalog.Header{{Name: "Authorization", Value: "Bearer secret-of-a-header"}}}, "Authorization: Bearer secret-of-a-header")
	f(Config{}, "")
	f(Config{Key: one, More: []Secret{two}, Auth: Auth{Mode: "none"}}, "")
}

// The ordinary request pays next to nothing for keys.
func BenchmarkPickAndSucceed(b *testing.B) {
	r := ringOf(Config{}, "sk-secret-of-the-first")
	now := begin
	b.ReportAllocs()
	for b.Loop() {
		if r.Pick("m", -1, 0, now) != 0 {
			b.Fatal("no key")
		}
		r.Succeed(0, "m")
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	r := ringOf(Config{}, "sk-secret-of-the-first", "sk-secret-of-the-second")
	r.Fail(0, KeyFailure{Reason: KeyRateLimit}, begin)
	if n := testing.AllocsPerRun(100, func() { r.Pick("m", -1, 0, begin); r.Cooling("m", begin); r.Succeed(1, "m") }); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}
