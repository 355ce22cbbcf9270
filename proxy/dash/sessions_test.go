package dash

import (
	"crypto/sha256"
	"testing"
	"time"
)

func TestSessionsEndAndAreBounded(t *testing.T) {
	var s Sessions
	now := time.Unix(1000, 0)
	sum := sha256.Sum256([]byte("key"))
	first, made := s.Open(sum, 2, time.Hour, now)
	if got := s.Find([]byte(first), now); got != made || got.Sum != sum {
		t.Fatalf("found %+v, want what was made", got)
	}
	if s.Find([]byte(first+"x"), now) != nil || s.Find(nil, now) != nil {
		t.Error("what nobody was given is taken")
	}
	if !made.Ours([]byte(made.Token)) || made.Ours(nil) || made.Ours([]byte(first)) {
		t.Error("the token is not told from others")
	}
	second, _ := s.Open(sum, 2, time.Hour, now.Add(time.Minute))
	if first == second {
		t.Fatal("two have the same cookie")
	}
	s.Find([]byte(first), now.Add(2*time.Minute))
	third, _ := s.Open(sum, 2, time.Hour, now.Add(3*time.Minute))
	if s.Find([]byte(second), now.Add(3*time.Minute)) != nil {
		t.Error("who was seen longest ago is still signed in")
	}
	if s.Find([]byte(first), now.Add(3*time.Minute)) == nil || s.Find([]byte(third), now.Add(3*time.Minute)) == nil {
		t.Error("who was seen lately was signed out")
	}
	if s.Find([]byte(first), now.Add(time.Hour)) != nil {
		t.Error("a session outlives its time")
	}
	s.Close([]byte(third))
	if s.Find([]byte(third), now.Add(4*time.Minute)) != nil {
		t.Error("a closed session holds")
	}
}
