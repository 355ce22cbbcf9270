package fault

import "strings"

// FailureKind says how a failure looked from the connection: terminated,
// connection_reset, connection_closed, timeout or aborted; empty for any other.
func (f *Failure) FailureKind() string {
	switch f.Kind {
	case "connection_reset":
		return kindReset
	case "connection_closed", "truncated":
		return kindClosed
	case "connect_timeout", "write_timeout", "headers_timeout", "first_content_timeout", "gap_timeout", "total_timeout":
		return kindTimeout
	case "cancelled":
		return kindAborted
	}
	switch strings.ToLower(f.Code) {
	case "abort_err", "econnaborted", "err_aborted":
		return kindAborted
	case "econnreset":
		return kindReset
	case "err_stream_premature_close", "und_err_socket", "truncated":
		return kindClosed
	case "etimedout", "err_socket_connection_timeout":
		return kindTimeout
	}
	text := lower(f.Message)
	for i := range kinds {
		if kinds[i].words.in(text) {
			return kinds[i].name
		}
	}
	return ""
}

const (
	kindTerminated = "terminated"
	kindReset      = "connection_reset"
	kindClosed     = "connection_closed"
	kindTimeout    = "timeout"
	kindAborted    = "aborted"
)

// kinds are looked for in this order.
var kinds = [...]struct {
	name  string
	words words
}{
	{kindTerminated, words{"~terminated", "~sigkill", "~sigterm"}},
	{kindReset, words{"~econnreset", "~connection reset"}},
	{kindClosed, words{"~socket hang up", "~premature close", "~connection closed", "~other side closed"}},
	{kindTimeout, words{"~timed out", "~timeout", "~etimedout"}},
	{kindAborted, words{"~aborted", "~abort_err", "~operation was aborted"}},
}
