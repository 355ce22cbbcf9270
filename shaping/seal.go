package shaping

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
)

// A Sealer makes and opens the envelopes in which a stateless client carries
// what it may not read or change: reasoning of a backend, a summary of a
// conversation. An envelope is text: base64url of a version, a nonce and the
// payload under AES-256-GCM. It may be used concurrently.
type Sealer struct{ aead cipher.AEAD }

// SealKeyBytes is the length of a Sealer's key.
const SealKeyBytes = 32

// sealVersion is the first byte of every envelope, and sealPrefix what its text
// therefore begins with.
const (
	sealVersion = 0x9e
	sealPrefix  = "ns1."
)

// ErrSeal says that a text is no envelope of this key.
var ErrSeal = errors.New("not an envelope of ours")

// NewSealer makes a Sealer of a key of SealKeyBytes.
func NewSealer(key []byte) (*Sealer, error) {
	if len(key) != SealKeyBytes {
		return nil, fmt.Errorf("the key of sealed envelopes has %d bytes, not %d", len(key), SealKeyBytes)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &Sealer{aead}, nil
}

// Seal appends the envelope of payload, which consists of letters, digits and
// -_. and needs no escaping. label is bound to it and must be said again to
// open it.
func (s *Sealer) Seal(dst []byte, label string, payload []byte) []byte {
	sealed := make([]byte, 1+s.aead.NonceSize(), 1+s.aead.NonceSize()+len(payload)+s.aead.Overhead())
	sealed[0] = sealVersion
	if _, err := rand.Read(sealed[1:]); err != nil {
		panic("BUG: the system's random source failed: " + err.Error()) // crypto/rand promises not to
	}
	sealed = s.aead.Seal(sealed, sealed[1:], payload, []byte(label))
	dst = append(dst, sealPrefix...)
	return base64.RawURLEncoding.AppendEncode(dst, sealed)
}

// Open returns what Seal was given, or ErrSeal for anything else: another's
// text, another key's, one that was changed, one with another label.
func (s *Sealer) Open(envelope []byte, label string) ([]byte, error) {
	if len(envelope) < len(sealPrefix) || string(envelope[:len(sealPrefix)]) != sealPrefix {
		return nil, ErrSeal
	}
	sealed, err := base64.RawURLEncoding.AppendDecode(nil, envelope[len(sealPrefix):])
	n := 1 + s.aead.NonceSize()
	if err != nil || len(sealed) < n+s.aead.Overhead() || sealed[0] != sealVersion {
		return nil, ErrSeal
	}
	payload, err := s.aead.Open(nil, sealed[1:n], sealed[n:], []byte(label))
	if err != nil {
		return nil, ErrSeal
	}
	return payload, nil
}
