package proxy

import (
	"fmt"

	"nearside/proxy/fault"
)

// mayGoLarger says whether the request was refused for its length and may go to
// a larger window.
func (x *exchange) mayGoLarger(o *outcome) bool {
	return o.reason == fault.ContextOverflow && x.plan.policy.Overflow.LargerContext
}

// larger leaves of the steps to come only those whose window is known to be
// larger than that of the present target, and says whether there is one. A
// window is what the backend said it is when it refused, where that is less
// than what it is known for.
func (x *exchange) larger(o *outcome) bool {
	refused := x.cur.model.Window().Effective
	if n := fault.Window(o.reply.Message); n > 0 && (refused <= 0 || n < refused) {
		refused = n
	}
	found := false
	for i := x.step; i < len(x.plan.Steps); i++ {
		st := &x.plan.Steps[i]
		if st.Skip || st.done || x.barred(st) != "" {
			continue
		}
		window := st.target.model.Window().Effective
		switch {
		case refused <= 0:
			st.Reason = fmt.Sprintf("%s refused the prompt for its length, and its window is not known to be smaller", x.cur.ref)
		case window <= 0:
			st.Reason = fmt.Sprintf("%s refused the prompt for its length (window %d), and the window of this one is not known", x.cur.ref, refused)
		case window <= refused:
			st.Reason = fmt.Sprintf("%s refused the prompt for its length (window %d), and this one's window of %d is no larger", x.cur.ref, refused, window)
		default:
			found = true
			continue
		}
		st.Skip, st.skip = true, skipContext
	}
	return found
}
