// Package json5 owns the reading of JSON5 1.0 text into a tree that keeps the
// place of every key and value, and changes of such a text that leave all else
// of it as it is. It is strict: what the language does not allow is an error
// with a line and a column, and so is a key written twice. It gives no meaning
// to what it reads and touches no file.
package json5

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// Bounds of a text. A configuration is far below them; a text above them is a
// mistake or an attack.
const (
	DefaultBytes = 1 << 20
	DefaultDepth = 64
	// numberBytesMax keeps the conversion of a hexadecimal number, which is
	// not linear, away from megabytes of digits.
	numberBytesMax = 512
)

// Pos is a place in a text: File as it was given to Parse, Line and Col counted
// from 1, Col in characters. The zero Pos is nowhere.
type Pos struct {
	File      string
	Line, Col int
}

// String returns "file:line:column", without the file when it has no name.
func (p Pos) String() string {
	at := strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Col)
	if p.File == "" {
		return at
	}
	return p.File + ":" + at
}

// Kind is what a value is.
type Kind uint8

// The kinds of values.
const (
	Null Kind = iota + 1
	Bool
	Number
	String
	Array
	Object
)

// String returns the kind as a sentence needs it: "a number".
func (k Kind) String() string {
	switch k {
	case Null:
		return "null"
	case Bool:
		return "a boolean"
	case Number:
		return "a number"
	case String:
		return "a string"
	case Array:
		return "an array"
	case Object:
		return "an object"
	}
	return "nothing"
}

// Value is one value of a text.
type Value struct {
	Kind    Kind
	Pos     Pos
	Text    string // a string's characters; a number as it was written
	Bool    bool
	Items   []*Value // of an array
	Members []Member // of an object, in the order of the text

	From, To int // its bytes in the text that it was read from
}

// Member is one member of an object.
type Member struct {
	Key   string
	Pos   Pos // of the key
	From  int // the first byte of the key
	Value *Value
}

// Get returns the member's value called key, nil when there is none or v is no
// object. It may be called on nil.
func (v *Value) Get(key string) *Value {
	if v == nil {
		return nil
	}
	for i := range v.Members {
		if v.Members[i].Key == key {
			return v.Members[i].Value
		}
	}
	return nil
}

// errNotFinite is what a number that JSON cannot say becomes.
var errNotFinite = errors.New("must be a finite number")

// Float returns a number's value. Infinity and NaN are errors: JSON5 can write
// them, no setting can mean them.
func (v *Value) Float() (float64, error) {
	text, err := v.number()
	if err != nil {
		return 0, err
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("%s is out of range", v.Text)
	}
	return f, nil
}

// Int returns a number's value when it is a whole number that fits an int64.
// 1e3 and 5.0 are whole numbers.
func (v *Value) Int() (int64, error) {
	text, err := v.number()
	if err != nil {
		return 0, err
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	// Above 2^53 a float no longer tells whole numbers apart.
	if err != nil || f > 1<<53 || f < -(1<<53) {
		return 0, fmt.Errorf("%s is out of range", v.Text)
	}
	if f != float64(int64(f)) {
		return 0, errors.New("must be a whole number")
	}
	return int64(f), nil
}

// number returns the number as strict JSON writes it, every digit kept.
func (v *Value) number() (string, error) {
	if v == nil || v.Kind != Number {
		return "", errors.New("is not a number")
	}
	sign, digits := "", v.Text
	switch digits[0] {
	case '-':
		sign, digits = "-", digits[1:]
	case '+':
		digits = digits[1:]
	}
	if digits == "Infinity" || digits == "NaN" {
		return "", errNotFinite
	}
	if len(digits) > 2 && (digits[1] == 'x' || digits[1] == 'X') {
		n, ok := new(big.Int).SetString(digits[2:], 16)
		if !ok {
			return "", errors.New("is not a number")
		}
		return sign + n.String(), nil
	}
	if digits[0] == '.' {
		digits = "0" + digits
	}
	if dot := strings.IndexByte(digits, '.'); dot >= 0 {
		// "5." and "5.e3" are numbers in JSON5, not in JSON.
		if dot+1 == len(digits) || digits[dot+1] == 'e' || digits[dot+1] == 'E' {
			digits = digits[:dot] + digits[dot+1:]
		}
	}
	return sign + digits, nil
}

// AppendJSON appends v as strict JSON to dst and returns it. Numbers keep all
// their digits. A number that JSON cannot say is an *Error with its place.
func (v *Value) AppendJSON(dst []byte) ([]byte, error) {
	switch v.Kind {
	case Null:
		return append(dst, "null"...), nil
	case Bool:
		return strconv.AppendBool(dst, v.Bool), nil
	case String:
		return appendString(dst, v.Text), nil
	case Number:
		text, err := v.number()
		if err != nil {
			return dst, &Error{Pos: v.Pos, Text: err.Error()}
		}
		return append(dst, text...), nil
	case Array:
		dst = append(dst, '[')
		for i, item := range v.Items {
			if i > 0 {
				dst = append(dst, ',')
			}
			var err error
			if dst, err = item.AppendJSON(dst); err != nil {
				return dst, err
			}
		}
		return append(dst, ']'), nil
	case Object:
		dst = append(dst, '{')
		for i := range v.Members {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendString(dst, v.Members[i].Key), ':')
			var err error
			if dst, err = v.Members[i].Value.AppendJSON(dst); err != nil {
				return dst, err
			}
		}
		return append(dst, '}'), nil
	}
	panic("BUG: json5: a value without a kind")
}

const hexDigits = "0123456789abcdef"

func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c != 0x7f {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(dst, s[from:]...), '"')
}

// Error is one thing that is wrong with a text.
type Error struct {
	Pos  Pos
	Text string
}

// Error returns "file:line:column: what is wrong".
func (e *Error) Error() string { return e.Pos.String() + ": " + e.Text }
