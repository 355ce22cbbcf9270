// Package fault owns what a failure is: one table that names its reason, from a
// status, a code, a text or a transport error, in our own words and in
// OpenClaw's. It does not say what follows from it.
package fault

// Reason is why a target did not answer. There are few, so that they can be
// labels. The zero Reason is no failure.
type Reason uint8

// The reasons. What a backend says comes first, what is seen of its answer and
// its connection behind that.
const (
	None            Reason = iota
	Billing                // it is out of money or credits
	RateLimit              // too many requests or tokens for this key
	Overloaded             // the provider has too much to do, for all of its keys
	Auth                   // our credential was not taken
	AuthPermanent          // our credential will not be taken again
	Timeout                // nobody answered in time: our deadline, or one behind the backend
	Format                 // the request is at fault
	ModelNotFound          // it has no such model
	SessionExpired         // what the request refers to is gone
	ContextOverflow        // the prompt does not fit
	ContentFilter          // what the request says is refused
	Loading                // the model is not there yet
	Saturated              // the server is well and has no room now
	ServerError            // it failed
	TooLarge               // the body has too many bytes
	NotSupported           // it does not do what is asked
	NoEndpoint             // it does not have the path
	Redirect               // it sends us elsewhere
	HTML                   // a web page stands in the place of an answer
	NoDetails              // an error that says it says nothing
	EmptyAnswer            // a regular end without content
	Truncated              // an end before the end
	Malformed              // not what its dialect has
	AnswerTooLarge         // more than we read
	ConnectRefused
	ConnectTimeout
	NoRoute
	DNS
	TLS
	Address // our own policy forbids the address
	Reset
	Closed
	Full      // our own connections to it are all in use
	Cancelled // by us or by the client
	Unclassified
	reasonsEnd
)

// OpenClaw's classes.
const (
	classBilling         = "billing"
	classRateLimit       = "rate_limit"
	classOverloaded      = "overloaded"
	classAuth            = "auth"
	classAuthPermanent   = "auth_permanent"
	classTimeout         = "timeout"
	classFormat          = "format"
	classModelNotFound   = "model_not_found"
	classSessionExpired  = "session_expired"
	classContextOverflow = "context_overflow"
	classEmpty           = "empty_response"
	classNoDetails       = "no_error_details"
)

// reasons has the name of each reason and OpenClaw's class for it. A class of
// which it has no word of its own follows the status where there is one.
var reasons = [reasonsEnd]struct {
	name, class string
	byStatus    bool
}{
	Billing:         {name: "billing", class: classBilling},
	RateLimit:       {name: "rate_limit", class: classRateLimit},
	Overloaded:      {name: "overloaded", class: classOverloaded},
	Auth:            {name: "auth", class: classAuth},
	AuthPermanent:   {name: "auth_permanent", class: classAuthPermanent},
	Timeout:         {name: "timeout", class: classTimeout},
	Format:          {name: "format", class: classFormat},
	ModelNotFound:   {name: "model_not_found", class: classModelNotFound},
	SessionExpired:  {name: "session_expired", class: classSessionExpired},
	ContextOverflow: {name: "context_overflow", class: classContextOverflow},
	ContentFilter:   {name: "content_filter"},
	Loading:         {name: "loading", byStatus: true},
	Saturated:       {name: "saturated", byStatus: true},
	ServerError:     {name: "server_error", class: classTimeout, byStatus: true},
	TooLarge:        {name: "request_too_large"},
	NotSupported:    {name: "not_supported"},
	NoEndpoint:      {name: "no_endpoint", byStatus: true},
	Redirect:        {name: "redirect"},
	HTML:            {name: "html", byStatus: true},
	NoDetails:       {name: "no_error_details", class: classNoDetails},
	EmptyAnswer:     {name: "empty_answer", class: classEmpty},
	Truncated:       {name: "truncated", class: classTimeout},
	Malformed:       {name: "malformed"},
	AnswerTooLarge:  {name: "answer_too_large"},
	ConnectRefused:  {name: "connect_refused", class: classTimeout},
	ConnectTimeout:  {name: "connect_timeout", class: classTimeout},
	NoRoute:         {name: "no_route", class: classTimeout},
	DNS:             {name: "dns", class: classTimeout},
	TLS:             {name: "tls"},
	Address:         {name: "address_refused"},
	Reset:           {name: "connection_reset", class: classTimeout},
	Closed:          {name: "connection_closed", class: classTimeout},
	Full:            {name: "connections_full"},
	Cancelled:       {name: "cancelled"},
	Unclassified:    {name: "unclassified"},
}

// String returns the reason's name as receipts, logs and metrics show it; empty
// for None.
func (r Reason) String() string {
	if r >= reasonsEnd {
		return ""
	}
	return reasons[r].name
}

// Connect says whether no connection came about, which is a fault of the
// provider's address or of the way there, and of no model.
func (r Reason) Connect() bool {
	switch r {
	case ConnectRefused, ConnectTimeout, NoRoute, DNS, TLS:
		return true
	}
	return false
}

// OpenClaw returns OpenClaw's class for a reason that came with a status, 0 for
// none; empty where OpenClaw leaves it unclassified.
func (r Reason) OpenClaw(status int) string {
	if r >= reasonsEnd {
		return ""
	}
	switch row := &reasons[r]; {
	case r == ContextOverflow:
		return row.class
	case status == 429:
		return classRateLimit
	case status == 410 && r == ModelNotFound:
		return classTimeout
	case r == HTML && status >= 500:
		return classTimeout
	case row.byStatus && status != 0:
		return classOf(status)
	default:
		return row.class
	}
}

// classOf is OpenClaw's class of a status alone.
func classOf(status int) string {
	switch status {
	case 400, 422:
		return classFormat
	case 401, 403:
		return classAuth
	case 402:
		return classBilling
	case 404:
		return classModelNotFound
	case 408, 410, 499, 500, 502, 503, 504:
		return classTimeout
	case 429:
		return classRateLimit
	case 529:
		return classOverloaded
	}
	return ""
}
