package proxy

import (
	"testing"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// Without the policy nothing of an answer is kept, nor anything made to keep it.
func TestNothingIsTakenDownWithoutThePolicy(t *testing.T) {
	x := &exchange{snap: &Snapshot{Config: Defaults()}, receipt: &Receipt{Stream: true}, surface: surface{dialect: wire.Chat}, plan: Plan{policy: catalog.DefaultPolicy()}, cur: &target{}}
	if n := testing.AllocsPerRun(10, x.follow); n != 0 || x.onward != nil {
		t.Errorf("%v allocations, %+v", n, x.onward)
	}
	x.plan.policy.Continue = true
	if x.follow(); x.onward.follows() || x.onward.why == "" {
		t.Errorf("with no target to go on: %+v", x.onward)
	}
}
