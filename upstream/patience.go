package upstream

import (
	"math"
	"time"
)

const (
	prefillGuess = 200             // tokens per second, until the model has shown its own
	prefillShare = 3               // the budget is so many times the expected prefill
	prefillBase  = 20              // seconds beside it
	prefillLeast = 256             // tokens; shorter prompts say nothing of the rate
	warmFor      = 5 * time.Minute // Ollama unloads a model after it
	warmStep     = time.Second     // by which it is noted that content came
)

// wholeToken is what one token of an answer that comes whole may take, and
// wholeMax bounds them all.
const (
	wholeToken = 100 * time.Millisecond
	wholeMax   = 10 * time.Minute
)

// The bounds of what is taken for the time that a model takes to load, and how
// often that a model which may have to be loaded is waited for.
const (
	loadLeast = 2 * time.Second // less is no load but a slow first token
	loadMax   = 15 * time.Minute
	loadShare = 2
)

// The weights of a new figure in a moving average. Where the server does not say
// how much of a prompt it had in its cache, a rate that looks better than ever is
// most likely a cache, and one that looks worse is not.
const (
	paceWeight = 0.3
	paceRise   = 0.05
	paceFall   = 0.5
)

// patience returns how long to wait for the first content of the present prompt,
// or for the whole of an answer that comes whole, and the name of the setting
// that says so.
func (a *Attempt) patience(now time.Time) (time.Duration, string) {
	d, m := &a.b.cfg.Deadlines, a.model()
	a.cold = m.cold(now)
	if d.FirstContent > 0 {
		return d.FirstContent, "firstContent"
	}
	rate := m.PrefillRate()
	if rate <= 0 {
		rate = prefillGuess
	}
	budget := seconds(prefillBase + prefillShare*float64(a.req.Prompt)/rate)
	name := "firstContent"
	switch {
	case budget >= d.FirstContentMax && d.Explicit["firstContentMax"] != "":
		name = "firstContentMax"
	case budget <= d.FirstContentMin && d.Explicit["firstContentMin"] != "":
		name = "firstContentMin"
	}
	budget = min(max(budget, d.FirstContentMin), d.FirstContentMax)
	if a.cold {
		budget += m.loading(d)
	}
	return budget + min(time.Duration(a.req.Whole)*wholeToken, wholeMax), name
}

// LoadingWait returns how long a model that is being loaded is waited for at the
// most, where no other target is left: a while, and a few times what that took so
// far, within the setting.
func (b *Backend) LoadingWait(m *Model) time.Duration {
	d := &b.cfg.Deadlines
	if d.FirstContent > 0 && d.Explicit["firstContentCold"] == "" { // which is meant to bound all
		return d.FirstContent
	}
	return min(prefillBase*time.Second+m.loading(d), d.FirstContentCold)
}

// QueueWait returns how long a backend that has no room is waited for at the most,
// where no other target is left.
func (b *Backend) QueueWait() time.Duration { return b.cfg.Deadlines.Queue }

// seconds is a duration from a number of them, however large.
func seconds(s float64) time.Duration {
	return time.Duration(min(s*float64(time.Second), math.MaxInt64/4))
}

// model returns what is learned of the model that is asked.
func (a *Attempt) model() *Model {
	if a.req.Model != nil {
		return a.req.Model
	}
	return &a.b.own
}

// promptRead is how far a backend says that it is with a prompt.
type promptRead struct {
	done, total  int
	from         int       // done at the first report
	begun, moved time.Time // of the first report, and of the last that was ahead of the one before it
	longest      time.Duration
}

// reportsLeast is over how long reports show a speed: several that arrive at once
// show that of the network.
const reportsLeast = 100 * time.Millisecond

// rate is the speed that the reports show, in tokens a second; 0 until two of
// them do.
func (r *promptRead) rate() float64 {
	took := r.moved.Sub(r.begun)
	if took < reportsLeast || r.done <= r.from {
		return 0
	}
	return float64(r.done-r.from) / took.Seconds()
}

// Processed takes in that the backend says to have read done of total tokens of
// the prompt. A report that is ahead of the one before it shows that the backend
// is at work, and extends the wait for the first content: by what is left at the
// speed seen, and by no more than a few times the longest step so far, so that
// one which stands still is ended. Reports that stand still extend nothing, as
// keep-alives do not, and neither does anything where the wait is a fixed
// setting.
func (a *Attempt) Processed(now time.Time, done, total int) {
	r := &a.read
	if a.phase != PhaseContent || total <= 0 || done < 0 || done > total || !r.begun.IsZero() && done <= r.done {
		return
	}
	if r.begun.IsZero() {
		r.begun, r.from = now, done
	} else {
		r.longest = max(r.longest, now.Sub(r.moved))
	}
	r.done, r.total, r.moved = done, total, now
	d := &a.b.cfg.Deadlines
	if d.FirstContent > 0 {
		return
	}
	wait := prefillBase * time.Second
	if rate := r.rate(); rate > 0 {
		wait += min(seconds(prefillShare*float64(total-done)/rate), prefillShare*r.longest)
	}
	wait = min(max(wait, d.FirstContentMin), d.FirstContentMax)
	if until := now.Add(wait); until.After(a.deadline) {
		a.deadline, a.limit = until, until.Sub(a.sent).Round(time.Millisecond)
	}
}

// Learn takes in that the answer's first content came, and whether it came in a
// stream: of an answer that came whole it tells nothing but that the model is
// there.
func (a *Attempt) Learn(first time.Time, streamed bool) {
	m := a.model()
	if took := first.Sub(a.sent); !a.sent.IsZero() && streamed && took > 0 {
		a.first = took
		m.begun(a, took, first)
	}
	m.served(first)
}

// LearnPrompt takes in, once the answer has told, how many tokens the prompt had
// and how many of them the backend had in its cache; said is false where it told
// nothing of either, and the numbers are an estimate.
func (a *Attempt) LearnPrompt(tokens, cached int64, said bool) {
	if a.b == nil {
		return
	}
	m := a.model()
	if rate := a.read.rate(); rate > 0 {
		m.pace(rate, true)
		return
	}
	// A model that was loaded meanwhile shows less than its rate: better than none.
	read := tokens - cached
	if a.first <= 0 || read < prefillLeast || a.cold && m.PrefillRate() > 0 {
		return
	}
	m.pace(float64(read)/a.first.Seconds(), said && cached > 0)
}

// average is the next value of a moving average.
func average(old, seen, weight float64) float64 {
	if old <= 0 {
		return seen
	}
	return old + weight*(seen-old)
}
