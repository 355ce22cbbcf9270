package command

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rs/zerolog"

	"nearside/proxy"
	"nearside/proxy/capture"
	"nearside/proxy/ledger"
	"nearside/proxy/store"
	"nearside/shaping"
)

// The files of the data folder.
const (
	storeFile   = "responses.db"
	ledgerFile  = "ledger.db"
	sealKeyFile = "seal.key"
	captureDir  = "captures"
)

// ledgerMemory is what a ledger may take that has no file.
const ledgerMemory = 16 << 20

// state is what outlives a restart.
type state struct {
	store    *store.Store // nil when nothing is kept
	file     string       // of the store; empty for memory
	sealer   *shaping.Sealer
	ledger   *ledger.Ledger // nil when none is kept
	captures *capture.Keeper
}

// openState opens what the configuration wants kept. notes are what a person
// should know of it. The state must be closed after the server's shutdown.
func openState(cfg *proxy.Config, log zerolog.Logger) (st state, notes []string, err error) {
	var note string
	if st.sealer, note, err = sealer(cfg); err != nil {
		return st, nil, err
	}
	if note != "" {
		notes = append(notes, note)
	}
	if st.store, note, err = openStore(cfg, log); err != nil {
		return st, nil, err
	}
	if note != "" {
		notes = append(notes, note)
	} else if cfg.Responses.Store == "file" {
		st.file = filepath.Join(cfg.DataDir, storeFile)
	}
	if st.ledger, note, err = openLedger(cfg, log); err != nil {
		st.close()
		return st, nil, err
	}
	st.captures = capture.Open(capture.Options{Dir: filepath.Join(cfg.DataDir, captureDir), MaxAge: cfg.Capture.MaxAge, MaxBytes: cfg.Capture.MaxBytes, Queue: cfg.Capture.Queue, Log: log})
	if note != "" {
		notes = append(notes, note)
	}
	return st, notes, nil
}

// openLedger opens the account of exchanges, in memory where the file cannot be
// written to, which note says. A file that is no ledger is an error.
func openLedger(cfg *proxy.Config, log zerolog.Logger) (l *ledger.Ledger, note string, err error) {
	c := &cfg.Ledger
	if !c.Keep {
		return nil, "", nil
	}
	opt := ledger.Options{Path: filepath.Join(cfg.DataDir, ledgerFile), MaxAge: c.MaxAge, MaxBytes: c.MaxBytes, Queue: c.Queue, Every: c.Batch, SetAside: c.Aside, Log: log}
	if opt.MaxAge == 0 {
		opt.MaxAge = -1 // for ever
	}
	l, err = ledger.Open(opt)
	if err != nil && ledger.Unavailable(err) {
		note = fmt.Sprintf("the account of exchanges is kept in memory only, and ends with this process: %v", err)
		opt.Path, opt.MaxBytes = "", min(opt.MaxBytes, ledgerMemory)
		l, err = ledger.Open(opt)
	}
	if err != nil {
		return nil, "", fmt.Errorf("%w; it was left as it is: move it away, or set proxy.ledger.keep: false", err)
	}
	if aside := l.Aside(); aside != "" {
		note = fmt.Sprintf("the account of exchanges was damaged: it was moved to %s, and a new one begins", aside)
	}
	return l, note, nil
}

func (s state) close() {
	if s.store != nil {
		_ = s.store.Close() // what it could not write it has logged
	}
	if s.ledger != nil {
		_ = s.ledger.Close() // as above
	}
	if s.captures != nil {
		s.captures.Close()
	}
}

// openStore opens the store of responses. Where the file cannot be had, because
// the folder cannot be written to or another proxy has it, responses are kept
// in memory, and note says so. A file that is damaged is an error: what it holds
// must not be given up silently.
func openStore(cfg *proxy.Config, log zerolog.Logger) (st *store.Store, note string, err error) {
	r := &cfg.Responses
	if r.Store == "off" {
		return nil, "", nil
	}
	opt := store.Options{MaxAge: r.MaxAge, MaxBytes: r.MaxBytes, Log: log}
	if opt.MaxAge == 0 {
		opt.MaxAge = -1 // for ever
	}
	if r.Store == "file" {
		opt.Path = filepath.Join(cfg.DataDir, storeFile)
	}
	st, err = store.Open(opt)
	if err != nil && (errors.Is(err, store.ErrInUse) || unwritable(err)) {
		note = fmt.Sprintf("responses are kept in memory only: %v", err)
		opt.Path = ""
		st, err = store.Open(opt)
	}
	return st, note, err
}

func unwritable(err error) bool {
	return errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "read-only file system")
}

// sealer returns the maker of sealed envelopes. Its key is made on first use and
// kept in the data folder, so that what a client carries can be read after a
// restart; where that cannot be, the key lasts as long as the process, and note
// says so.
func sealer(cfg *proxy.Config) (s *shaping.Sealer, note string, err error) {
	path, own := cfg.Responses.SealKey, true
	if path == "" {
		path, own = filepath.Join(cfg.DataDir, sealKeyFile), false
	}
	key, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) && !own {
		key = make([]byte, shaping.SealKeyBytes)
		if _, err := rand.Read(key); err != nil {
			return nil, "", err
		}
		if err := writeKey(path, key); err != nil {
			if errors.Is(err, fs.ErrExist) { // another proxy was first
				key, err = readKey(path)
			}
			if err != nil {
				note = fmt.Sprintf("sealed envelopes (encrypted reasoning, compaction) will not outlive this process: %v", err)
			}
		}
	} else if err != nil {
		return nil, "", fmt.Errorf("the key of sealed envelopes (proxy.responses.sealKey): %w", err)
	}
	s, err = shaping.NewSealer(key)
	return s, note, err
}

// shapingOf returns what translations need, for commands that only look: the key
// of sealed envelopes is read where there is one, and none is made.
func shapingOf(cfg *proxy.Config) (shaping.Options, error) {
	path := cfg.Responses.SealKey
	if path == "" {
		path = filepath.Join(cfg.DataDir, sealKeyFile)
	}
	key, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) && cfg.Responses.SealKey == "" {
		return shaping.Options{}, nil
	}
	if err != nil {
		return shaping.Options{}, fmt.Errorf("the key of sealed envelopes (proxy.responses.sealKey): %w", err)
	}
	s, err := shaping.NewSealer(key)
	return shaping.Options{Sealer: s}, err
}

func readKey(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != shaping.SealKeyBytes {
		return nil, fmt.Errorf("%s does not hold %d bytes as base64 (openssl rand -base64 %d makes such a key)", path, shaping.SealKeyBytes, shaping.SealKeyBytes)
	}
	return key, nil
}

// writeKey writes a key so that a file that is there has it whole.
func writeKey(path string, key []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".seal-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(key) + "\n")
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Link(f.Name(), path) // fails where there is one
}
