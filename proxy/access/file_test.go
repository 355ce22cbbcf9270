package access

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func added(t *testing.T, path string, k Kept) (id, secret string) {
	t.Helper()
	if err := Update(path, func(f *File) (err error) {
		secret, err = f.Add(k, noon)
		id = f.Keys[len(f.Keys)-1].ID
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return id, secret
}

func tableIn(t *testing.T, path string, now time.Time) *Table {
	t.Helper()
	f, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return NewTable(f.List(now), len(f.Keys) > 0)
}

// What is at stake: the file never holds a key, only the owner may read it, and a
// key lives exactly from its making to its end.
func TestAKeysLife(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "keys.json")
	id, secret := added(t, path, Kept{Label: "laptop", Expires: noon.Add(time.Hour), NearOnly: true})
	if !regexp.MustCompile(`^nsk_[a-z2-9]{8}_[0-9A-Za-z]{43}$`).MatchString(secret) || !strings.Contains(secret, id) {
		t.Errorf("the key is %q of %q", secret, id)
	}
	text, err := os.ReadFile(path)
	if err != nil || bytes.Contains(text, []byte(secret)) || bytes.Contains(text, []byte(secret[len(secret)-20:])) {
		t.Errorf("the file holds the key: %v\n%s", err, text)
	}
	if st, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	valid := func(secret string, now time.Time) bool { return tableIn(t, path, now).Find([]byte(secret), now) != nil }
	if !valid(secret, noon) || valid(secret, noon.Add(time.Hour)) || valid(secret+"x", noon) {
		t.Error("it is valid at another time than it should be")
	}
	if g := tableIn(t, path, noon).Grant(id); g == nil || !g.Policy.NearOnly || g.Name() != "laptop" {
		t.Errorf("it grants %+v", g)
	}

	var renewed string
	if err := Update(path, func(f *File) error {
		k, err := f.Find("laptop")
		if err == nil {
			renewed, err = k.Rotate(noon, time.Minute)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if !valid(renewed, noon) || !valid(secret, noon.Add(59*time.Second)) || valid(secret, noon.Add(time.Minute)) || renewed == secret || !strings.Contains(renewed, id) {
		t.Error("rotated, the new key and for a minute the old one are valid")
	}
	table := tableIn(t, path, noon) // of before: the end of the grace comes without a reload
	if table.Find([]byte(secret), noon.Add(time.Minute)) != nil || table.Find([]byte(secret), noon) == nil {
		t.Error("the old key's grace does not end by itself")
	}

	if err := Update(path, func(f *File) error {
		k, err := f.Find(id)
		if err == nil {
			k.Revoke(noon)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if valid(renewed, noon) || valid(secret, noon) {
		t.Error("revoked, it is valid")
	}
	if !tableIn(t, path, noon).Required() {
		t.Error("with the last key revoked nobody is asked for one")
	}
}

// Two who add keys at once lose none.
func TestKeysThatAreAddedTogetherAreAllThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if err := Update(path, func(f *File) error { _, err := f.Add(Kept{Label: fmt.Sprint(i)}, noon); return err }); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if f, err := ReadFile(path); err != nil || len(f.Keys) != 20 {
		t.Errorf("%v %v", f, err)
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A file that is not understood to the last word lets nobody in by mistake, and a
// change that fails changes nothing.
func TestFilesThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	f := func(text, want string) {
		t.Helper()
		path := filepath.Join(dir, "keys.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
		}
	}
	sum := strings.Repeat("ab", 32)
	f("", "not a file of keys")
	f("{", "not a file of keys")
	f(`{"version":2,"keys":[]}`, "version 2")
	f(`{"version":1,"keys":[{"id":"a","sha256":"`+sum+`","near_alone":true}]}`, "near_alone")
	f(`{"version":1,"keys":[{"id":"a","sha256":"secret"}]}`, "64 hexadecimal")
	f(`{"version":1,"keys":[{"id":"a b","sha256":"`+sum+`"}]}`, "its id")
	f(`{"version":1,"keys":[{"id":"a","sha256":"`+sum+`"},{"id":"a","sha256":"`+sum+`"}]}`, "that of another")
	f(`{"version":1,"keys":[{"id":"a","sha256":"`+sum+`","daily_usd":-1}]}`, "less than 0")

	path := filepath.Join(dir, "other.json")
	_, secret := added(t, path, Kept{Label: "a"})
	was, _ := os.ReadFile(path)
	if err := Update(path, func(f *File) error { f.Keys = nil; return errors.New("no") }); err == nil {
		t.Error("the error of a change is lost")
	}
	if err := Update(path, func(f *File) error { f.Keys[0].Label = "a\nb"; return nil }); err == nil {
		t.Error("a label of two lines is kept")
	}
	if now, _ := os.ReadFile(path); !bytes.Equal(was, now) || tableIn(t, path, noon).Find([]byte(secret), noon) == nil {
		t.Errorf("%s\nbecame\n%s", was, now)
	}
	if runtime.GOOS != "windows" {
		if err := os.Chmod(path, 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("a file that all may write to is read: %v", err)
		}
	}
}

// Each letter is as likely as the others.
func TestSecretsAreEven(t *testing.T) {
	text, err := random(secretLetters, 62*1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range secretLetters {
		if n := strings.Count(text, string(c)); n < 800 || n > 1200 { // six deviations
			t.Errorf("%c comes %d times in 62000", c, n)
		}
	}
}
