package shaping

// Notes say what a Mender did with one answer.
type Notes struct {
	Promoted []string // tools of the request whose calls came as text
	Hidden   []string // names of blocks that were taken out of the text
	Look     Look     // text that looks like a call and was left as it is
	Split    bool     // thinking between tags became reasoning
	repairs  [repairs]uint32
}

// notedMax bounds the names that are noted.
const notedMax = 32

// Look is what a text that was not taken for a call looks like. The zero Look is
// none.
type Look struct {
	Kind  string `json:"pattern"`        // bracketed_tool_call, xml_tool_call, json_tool_call, react_action
	Tool  string `json:"tool,omitempty"` // the name it calls, if one can be told
	Known bool   `json:"registered"`     // a tool of this request has it
}

// Repair is a kind of what is wrong with calls.
type Repair uint8

// The kinds.
const (
	RepairIndex Repair = iota
	RepairID
	RepairName
	RepairArguments
	RepairFinish
	RepairEmpty
	RepairMixed
	repairs
)

// String returns the kind's name as logs and metrics show it.
func (r Repair) String() string {
	return [...]string{"index", "id", "name", "arguments", "finish_reason", "empty_tool_calls", "text_beside_calls"}[r]
}

func (n *Notes) repair(r Repair) { n.repairs[r]++ }

// Repaired appends the names of what was repaired.
func (n *Notes) Repaired(dst []string) []string {
	for r, times := range n.repairs {
		if times > 0 {
			dst = append(dst, Repair(r).String())
		}
	}
	return dst
}

// Any says whether there is anything to tell.
func (n *Notes) Any() bool {
	return n.Split || len(n.Promoted) > 0 || len(n.Hidden) > 0 || n.Look.Kind != "" || n.repairs != [repairs]uint32{}
}
