package queue

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// FuzzQueue: whatever comes, waits, leaves and changes, in any order: no more are
// served than there are slots and models have room, none waits that could be served,
// no more wait than may, each is told its turn once, and in the end nothing is left.
func FuzzQueue(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100})
	f.Add([]byte("\x00\x10\x20\x01\x11\x21\x80\x81\x82\xc0\xff\x00\x01\x02\x90\x91\x92\xa0\xa1"))
	f.Add([]byte{3, 2, 1, 0, 0, 0, 0, 4, 8, 12, 16, 20, 24, 128, 129, 130, 131, 200, 201, 255, 192, 193})
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) < 3 {
			return
		}
		now := time.Unix(0, 0)
		opt := Options{Slots: int(ops[0] % 4), Queue: int(ops[1] % 8), Resident: int(ops[2] % 3), Now: func() time.Time { return now }}
		if opt.Queue == 0 {
			opt.Queue = -1
		}
		q := New(opt)
		lowered := 0 // slots may have been more when they were given
		var places []*Place
		check := func(op string) {
			t.Helper()
			running, models := 0, map[string]int{}
			for _, p := range places {
				if p.q == nil || p.err != nil {
					continue
				}
				if !p.served.IsZero() {
					running++
					models[p.r.Model]++
				}
				if told := isReady(p); told != !p.served.IsZero() {
					t.Fatalf("%s: a place is told its turn: %v, served: %v", op, told, !p.served.IsZero())
				}
				if math.IsNaN(p.start) || math.IsInf(p.start, 0) {
					t.Fatalf("%s: a place starts at %v", op, p.start)
				}
			}
			st := q.Status()
			switch {
			case st.Running != running:
				t.Fatalf("%s: %d run, and the queue says %d", op, running, st.Running)
			case opt.Slots > 0 && running > max(opt.Slots, lowered):
				t.Fatalf("%s: %d run in %d slots", op, running, opt.Slots)
			case opt.Resident > 0 && len(models) > max(opt.Resident, 0) && lowered == 0:
				t.Fatalf("%s: %v run, of %d models that are held", op, models, opt.Resident)
			case st.Waiting > max(opt.Queue, 0):
				t.Fatalf("%s: %d wait, of %d that may", op, st.Waiting, opt.Queue)
			case st.Waiting > 0 && opt.Resident == 0 && (opt.Slots == 0 || running < opt.Slots):
				t.Fatalf("%s: %d wait while %d of %d run", op, st.Waiting, running, opt.Slots)
			case st.Waiting > 0 && running == 0 && (q.waiting[0].Again().IsZero()):
				t.Fatalf("%s: %d wait for nothing", op, st.Waiting)
			}
			sumRunning, sumWaiting := 0, 0
			for _, s := range q.shares {
				sumRunning, sumWaiting = sumRunning+s.running, sumWaiting+s.waiting
			}
			if sumRunning != st.Running || sumWaiting != st.Waiting || len(q.Waiters(1000)) != st.Waiting {
				t.Fatalf("%s: keys have %d running and %d waiting: %+v", op, sumRunning, sumWaiting, st)
			}
		}
		for _, op := range ops[3:] {
			n := int(op & 0x3f)
			switch op >> 6 {
			case 0, 1:
				p := new(Place)
				r := Request{Key: fmt.Sprint(n % 3), Weight: float64(n % 4), Tokens: n * 60, Answer: n % 7 * 300, Batch: n%5 == 0, Model: fmt.Sprint(n % 4)}
				if op>>6 == 1 && n%8 == 0 {
					if q.TryEnter(p, r) {
						places = append(places, p)
					}
				} else if q.Enter(p, r) == nil {
					places = append(places, p)
				}
				check("enter")
			case 2:
				if len(places) == 0 {
					continue
				}
				p := places[n%len(places)]
				if n%3 == 0 {
					p.Waive()
				} else {
					p.Leave(n * 20)
				}
				check("leave")
			case 3:
				now = now.Add(time.Duration(n) * time.Second)
				for _, p := range places {
					p.Look()
				}
				if n%16 == 15 && opt.Slots > 0 {
					lowered = max(lowered, q.Status().Running)
					opt.Slots = 1 + n%4
					q.Set(opt)
				}
				check("time")
			}
		}
		for len(places) > 0 {
			progress := false
			for i := 0; i < len(places); {
				if p := places[i]; p.q == nil || p.err != nil || !p.served.IsZero() {
					p.Leave(0)
					p.Leave(0)
					places = append(places[:i], places[i+1:]...)
					progress = true
				} else {
					i++
				}
			}
			check("end")
			if !progress {
				at := places[0].Again()
				if !at.After(now) {
					t.Fatalf("%d wait, the first until %v, and now is %v", len(places), at, now)
				}
				now = at
				places[0].Look()
			}
		}
		if st := q.Status(); st.Running+st.Waiting != 0 {
			t.Fatalf("left behind: %+v", st)
		}
	})
}

// isReady says whether a place was told that its turn has come.
func isReady(p *Place) bool {
	if p.ready == nil {
		return true
	}
	select {
	case <-p.ready:
		return true
	default:
		return false
	}
}
