package catalog

// UserRule is a rewriting of requests that the configuration holds (proxy.rules,
// proxy.providers.<id>.rules, proxy.models.<ref>.rules). Exactly one of Set,
// Remove, Default, Rename, Map and Clamp is there.
type UserRule struct {
	Name string
	From string // its place in the configuration: "proxy.rules[0]"
	Why  string // the user's words; may be empty

	// What it is for; empty for all.
	Dialects []string // in which the backend is asked
	Models   string   // a pattern for ids or refs, with *
	Kinds    []Kind
	When     *Condition // of the request; nil for any

	Set     *Assignment
	Remove  string // a path
	Default *Assignment
	Rename  *Renaming
	Map     *Mapping
	Clamp   *Clamping
}

// Condition holds when a value at Path does. Exactly one of the others is there.
type Condition struct {
	Path        string
	Exists      *bool
	Equals      []byte // JSON
	Matches     string // a regular expression, for strings
	GreaterThan *float64
	LessThan    *float64
}

// Assignment gives a path a value.
type Assignment struct {
	Path  string
	Value []byte // JSON
}

// Renaming gives a member another name.
type Renaming struct {
	Path, To string
}

// Mapping replaces values: the key is a string's text, or the JSON of what is
// none.
type Mapping struct {
	Path   string
	Values map[string][]byte // JSON
	Else   []byte            // for any other value; nil leaves it
}

// Clamping keeps a number within bounds.
type Clamping struct {
	Path     string
	Min, Max *float64
}
