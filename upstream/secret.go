package upstream

import (
	"fmt"
	"io"
)

// secretMask is all that a Secret ever shows.
const secretMask = "***"

// String returns "***", also for the zero Secret: whether there is a key is for
// IsZero to say.
func (s Secret) String() string { return secretMask }

// GoString returns what String does, for %#v.
func (s Secret) GoString() string { return s.String() }

// Format prints what String does, whatever the verb: %x of a credential is one
// too.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalJSON gives "***" as a JSON string.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// MarshalText gives what String does, for encoders of other formats.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
