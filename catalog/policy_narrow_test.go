package catalog

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// flags calls f with every switch of a policy, by its name.
func flags(v reflect.Value, path string, f func(path string, v reflect.Value)) {
	for i := range v.NumField() {
		at, name := v.Field(i), path+v.Type().Field(i).Name
		switch at.Kind() {
		case reflect.Struct:
			flags(at, name+".", f)
		case reflect.Bool:
			f(name, at)
		}
	}
}

// A key or a request must never widen a policy, and a switch that is added to
// policies must not be forgotten in Narrow.
func TestNarrowOnlyTakes(t *testing.T) {
	wide := Widest()
	all := Widest()
	all.Regions = []string{"eu", "us"}
	all.Overflow.QueueWait = time.Second
	for _, p := range []Policy{DefaultPolicy(), {}, {NearOnly: true}, all} {
		if diff := cmp.Diff(p, p.Narrow(&wide)); diff != "" {
			t.Errorf("the widest policy changes %+v:\n%s", p, diff)
		}
	}
	flags(reflect.ValueOf(&wide).Elem(), "", func(path string, v reflect.Value) {
		closed := v.Bool() // what the widest policy says allows; its opposite forbids
		v.SetBool(!closed)
		p := Widest()
		got := p.Narrow(&wide) // a narrower key on a wide chain
		back := Widest()
		again := wide.Narrow(&back) // a wide key on a narrower chain
		v.SetBool(closed)
		for _, one := range []Policy{got, again} {
			flags(reflect.ValueOf(&one).Elem(), "", func(other string, w reflect.Value) {
				if other == path && w.Bool() == closed {
					t.Errorf("%s is not narrowed", path)
				}
			})
		}
	})
}

func TestRegionsAreIntersected(t *testing.T) {
	f := func(p Policy, region string, near, want bool) {
		t.Helper()
		if got := p.Allows(region, near); got != want {
			t.Errorf("%v (none %v) allows %q, near %v: %v, want %v", p.Regions, p.NoRegion, region, near, got, want)
		}
	}
	f(Policy{}, "", false, true)
	f(Policy{}, "us", false, true)
	eu := Policy{Regions: []string{"eu", "ch"}}
	f(eu, "eu", false, true)
	f(eu, "us", false, false)
	f(eu, "", false, false) // nobody said where it is
	f(eu, "", true, true)   // in the house
	f(eu, "us", true, false)
	f(eu.Within(nil), "eu", false, true)
	f(eu.Within([]string{"ch", "us"}), "ch", false, true)
	f(eu.Within([]string{"ch", "us"}), "eu", false, false)
	f(eu.Within([]string{"ch", "us"}), "us", false, false)
	none := eu.Within([]string{"us"})
	f(none, "us", false, false)
	f(none, "eu", false, false)
	f(none, "", true, true)
	f(none.Within([]string{"eu"}), "eu", false, false) // what is gone does not come back
	f(Policy{}.Narrow(&none), "eu", false, false)
}

func TestBoundsOfModels(t *testing.T) {
	p := &Provider{ID: "p", Near: true, BaseURL: "http://127.0.0.1:1/v1", Region: "eu", Bounds: map[string]Bounds{"secret": {NearOnly: true}, "moved": {Region: "us"}}}
	f := func(id string, want Bounds) {
		t.Helper()
		if got := (&Model{Provider: p, ID: id}).Bounds(); got != want {
			t.Errorf("%s: %+v, want %+v", id, got, want)
		}
	}
	f("other", Bounds{Region: "eu"})
	f("Secret", Bounds{NearOnly: true, Region: "eu"})
	f("moved", Bounds{Region: "us"})
	near := func(base string, want bool) {
		t.Helper()
		if got := (&Model{Provider: p, BaseURL: base}).Near(); got != want {
			t.Errorf("%s is near: %v, want %v", base, got, want)
		}
	}
	near("http://127.0.0.1:1/v1", true)
	near("http://127.0.0.1:2/v1", true)
	near("https://api.example.com/v1", false) // a model of a near provider that lives elsewhere
}
