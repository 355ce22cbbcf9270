package access

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"nearside/catalog"
)

// Kept is one key as the file keeps it: never the key, only its SHA-256.
type Kept struct {
	ID     string `json:"id"`
	Label  string `json:"label,omitempty"`
	SHA256 string `json:"sha256"`
	// What it was before it was changed for another, and how long that still holds.
	Previous      string    `json:"previous_sha256,omitempty"`
	PreviousUntil time.Time `json:"previous_until,omitzero"`

	Created time.Time `json:"created"`
	Rotated time.Time `json:"rotated,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	Revoked time.Time `json:"revoked,omitzero"`

	Operator     bool     `json:"operator,omitempty"`
	SeesAll      bool     `json:"sees_all,omitempty"`
	Models       []string `json:"models,omitempty"`
	DefaultChain string   `json:"default_chain,omitempty"`
	NearOnly     bool     `json:"near_only,omitempty"`
	Regions      []string `json:"regions,omitempty"`

	RequestsPerMinute int     `json:"requests_per_minute,omitempty"`
	TokensPerMinute   int     `json:"tokens_per_minute,omitempty"`
	Concurrent        int     `json:"concurrent,omitempty"`
	DailyUSD          float64 `json:"daily_usd,omitempty"`
	DailyTokens       int64   `json:"daily_tokens,omitempty"`
	MonthlyUSD        float64 `json:"monthly_usd,omitempty"`
	MonthlyTokens     int64   `json:"monthly_tokens,omitempty"`
	Weight            float64 `json:"weight,omitempty"`
	Batch             bool    `json:"batch,omitempty"`
}

// Grant is what the key allows.
func (k *Kept) Grant() Grant {
	p := catalog.Widest()
	p.NearOnly = k.NearOnly
	for _, r := range k.Regions {
		p.Regions = append(p.Regions, catalog.Region(r))
	}
	return Grant{ID: k.ID, Label: k.Label, Operator: k.Operator, SeesAll: k.SeesAll, Models: k.Models, DefaultChain: k.DefaultChain, Policy: p,
		Limits: Limits{RequestsPerMinute: k.RequestsPerMinute, TokensPerMinute: k.TokensPerMinute, Concurrent: k.Concurrent,
			Daily: Budget{k.DailyUSD, k.DailyTokens}, Monthly: Budget{k.MonthlyUSD, k.MonthlyTokens}},
		Weight: k.Weight, Batch: k.Batch, Expires: k.Expires}
}

// State says in a word whether the key is valid.
func (k *Kept) State(now time.Time) string {
	switch {
	case !k.Revoked.IsZero():
		return "revoked"
	case !k.Expires.IsZero() && !now.Before(k.Expires):
		return "expired"
	}
	return "valid"
}

// File is what the file of keys holds. Revoked keys stay in it: what they did keeps
// its name, and the last one's end does not open the proxy to everybody.
type File struct {
	Version int    `json:"version"`
	Keys    []Kept `json:"keys"`

	sum [sha256.Size]byte // of what was read; zero for a file that was not there
}

// Same says whether two readings found the same.
func (f *File) Same(other *File) bool { return f.sum == other.sum }

// The bounds of a file.
const (
	fileVersion  = 1
	fileBytesMax = 16 << 20
	keysMax      = 10_000
	labelMax     = 64
	wordsMax     = 256 // models, or regions, of a key
)

// ReadFile reads a file of keys; one that is not there has none.
func ReadFile(path string) (*File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &File{Version: fileVersion}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && runtime.GOOS != "windows" && st.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("keys: %s can be written by others than its owner (mode %04o): whoever can, can let himself in; chmod 600 it", path, st.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	file, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("keys: %s: %w", path, err)
	}
	file.sum = sha256.Sum256(text)
	return file, nil
}

func parse(text []byte) (*File, error) {
	if len(text) > fileBytesMax {
		return nil, fmt.Errorf("is larger than %d bytes", fileBytesMax)
	}
	file := new(File)
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields() // a limit that is misspelt must not be none
	if err := d.Decode(file); err != nil {
		return nil, fmt.Errorf("is not a file of keys of this version: %w", err)
	}
	if file.Version != fileVersion {
		return nil, fmt.Errorf("is of version %d, and this program reads %d", file.Version, fileVersion)
	}
	if len(file.Keys) > keysMax {
		return nil, fmt.Errorf("has more than %d keys", keysMax)
	}
	ids := map[string]bool{}
	for i := range file.Keys {
		k := &file.Keys[i]
		if err := k.wrong(); err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		if ids[k.ID] {
			return nil, fmt.Errorf("key %d: its id %q is that of another", i+1, k.ID)
		}
		ids[k.ID] = true
	}
	return file, nil
}

// wrong says what is wrong with a key.
func (k *Kept) wrong() error {
	switch _, ok := sumOf(k.SHA256); {
	case !validID(k.ID):
		return errors.New("its id is not 1 to 64 letters, digits, - and _")
	case !ok:
		return errors.New("its sha256 is not 64 hexadecimal digits")
	case len(k.Models) > wordsMax, len(k.Regions) > wordsMax:
		return fmt.Errorf("it lists more than %d models or regions", wordsMax)
	case len(k.Label) > labelMax || strings.ContainsFunc(k.Label, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("its label is longer than %d bytes or cannot be printed", labelMax)
	case k.RequestsPerMinute < 0, k.TokensPerMinute < 0, k.Concurrent < 0, k.DailyUSD < 0, k.DailyTokens < 0, k.MonthlyUSD < 0, k.MonthlyTokens < 0, k.Weight < 0:
		return errors.New("a limit is less than 0")
	case !finite(k.DailyUSD), !finite(k.MonthlyUSD), !finite(k.Weight):
		return errors.New("a limit is no finite number; without one there is none")
	}
	if k.Previous != "" {
		if _, ok := sumOf(k.Previous); !ok {
			return errors.New("its previous_sha256 is not 64 hexadecimal digits")
		}
	}
	return nil
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

func validID(id string) bool {
	if len(id) == 0 || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		if c := id[i]; !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

func sumOf(text string) (sum [sha256.Size]byte, ok bool) {
	p, err := hex.DecodeString(text)
	if err != nil || len(p) != len(sum) {
		return sum, false
	}
	return [sha256.Size]byte(p), true
}

// List returns the keys of the file that are valid at some time from now on.
func (f *File) List(now time.Time) []Key {
	var all []Key
	for i := range f.Keys {
		k := &f.Keys[i]
		if k.State(now) != "valid" {
			continue
		}
		sum, _ := sumOf(k.SHA256)
		key := Key{Sum: sum, Grant: k.Grant()}
		if k.Previous != "" && now.Before(k.PreviousUntil) {
			key.Previous, _ = sumOf(k.Previous)
			key.PreviousUntil = k.PreviousUntil
		}
		all = append(all, key)
	}
	return all
}

// Find returns the key with an id, or the only one that is not revoked with a label.
func (f *File) Find(name string) (*Kept, error) {
	var found *Kept
	for i := range f.Keys {
		switch k := &f.Keys[i]; {
		case k.ID == name:
			return k, nil
		case k.Label == name && k.Revoked.IsZero() && found != nil:
			return nil, fmt.Errorf("several keys are called %q: say the id of one", name)
		case k.Label == name && k.Revoked.IsZero():
			found = k
		}
	}
	if found == nil {
		return nil, fmt.Errorf("there is no key with the id or name %q", name)
	}
	return found, nil
}

// Add adds a key and returns it as its client is to present it. That is the only
// time that it is to be had. k's id and sum are made here.
func (f *File) Add(k Kept, now time.Time) (secret string, err error) {
	if len(f.Keys) >= keysMax {
		return "", fmt.Errorf("there are %d keys already", keysMax)
	}
	for k.ID == "" || f.has(k.ID) {
		if k.ID, err = random(idLetters, idLength); err != nil {
			return "", err
		}
	}
	if secret, err = k.renew(); err != nil {
		return "", err
	}
	k.Created = now.UTC().Truncate(time.Second)
	if err := k.wrong(); err != nil {
		return "", err
	}
	f.Keys = append(f.Keys, k)
	return secret, nil
}

func (f *File) has(id string) bool {
	for i := range f.Keys {
		if f.Keys[i].ID == id {
			return true
		}
	}
	return false
}

// Revoke ends a key now.
func (k *Kept) Revoke(now time.Time) {
	k.Revoked = now.UTC().Truncate(time.Second)
	k.Previous, k.PreviousUntil = "", time.Time{}
}

// Rotate changes a key for another with the same id; the old one holds for a while
// still.
func (k *Kept) Rotate(now time.Time, grace time.Duration) (secret string, err error) {
	if !k.Revoked.IsZero() {
		return "", fmt.Errorf("the key %s is revoked", k.ID)
	}
	k.Previous, k.PreviousUntil = "", time.Time{}
	if grace > 0 {
		k.Previous, k.PreviousUntil = k.SHA256, now.UTC().Add(grace)
	}
	k.Rotated = now.UTC().Truncate(time.Second)
	return k.renew()
}

// A key is nsk_<id>_<secret>: a prefix by which scanners find one that leaked, the
// id that it may be named by, and 256 random bits.
const (
	secretPrefix  = "nsk_"
	idLetters     = "abcdefghjkmnpqrstuvwxyz23456789"
	idLength      = 8
	secretLetters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	secretLength  = 43
)

func (k *Kept) renew() (string, error) {
	text, err := random(secretLetters, secretLength)
	if err != nil {
		return "", err
	}
	secret := secretPrefix + k.ID + "_" + text
	sum := sha256.Sum256([]byte(secret))
	k.SHA256 = hex.EncodeToString(sum[:])
	return secret, nil
}

// random draws n letters, each as likely as the others.
func random(letters string, n int) (string, error) {
	out := make([]byte, 0, n)
	var b [64]byte
	most := byte(256 / len(letters) * len(letters) % 256) // 0 where all 256 may be used
	for len(out) < n {
		if _, err := rand.Read(b[:]); err != nil {
			return "", fmt.Errorf("draw a key: %w", err)
		}
		for _, c := range b {
			if (most == 0 || c < most) && len(out) < n {
				out = append(out, letters[int(c)%len(letters)])
			}
		}
	}
	return string(out), nil
}

// Update changes the file of keys: others that do so wait, and whoever reads it
// finds it as it was or as it is then. change may return an error and nothing is
// written.
func Update(path string, change func(*File) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	unlock, err := lock(path + ".lock")
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	defer unlock()
	file, err := ReadFile(path)
	if err != nil {
		return err
	}
	if err := change(file); err != nil {
		return err
	}
	text, err := json.MarshalIndentWithOption(file, "", "  ", json.DisableHTMLEscape())
	if err != nil {
		return fmt.Errorf("BUG: write keys: %w", err)
	}
	if _, err := parse(text); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	if err := Replace(path, append(text, '\n')); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	return nil
}

// Replace writes a file of mode 0600 so that whoever reads it finds the old or the
// new content, whole, whatever happens in between.
func Replace(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
