package sim

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-json"
)

// newVersion is the API version that has no sampling parameters any more.
const newVersion = "2026-10-21"

const breakpointsMax = 4 // cache_control in one request

var (
	idPattern   = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)
	namePattern = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,128}$`)
)

// The members that a request and its parts may have. What is not in blockMembers
// is a part of a hosted tool and not looked into.
var (
	countMembers   = strings.Fields("model messages system tools tool_choice thinking output_config output_format cache_control context_management mcp_servers speed")
	requestMembers = append(strings.Fields("max_tokens metadata stop_sequences stream temperature top_k top_p service_tier container inference_geo"), countMembers...)
	messageMembers = strings.Fields("role content")
	toolMembers    = strings.Fields("type name description input_schema cache_control strict defer_loading allowed_callers input_examples eager_input_streaming")
	blockMembers   = map[string][]string{
		"text":              strings.Fields("type text cache_control citations"),
		"image":             strings.Fields("type source cache_control"),
		"document":          strings.Fields("type source title context citations cache_control"),
		"tool_use":          strings.Fields("type id name input cache_control caller"),
		"tool_result":       strings.Fields("type tool_use_id content is_error cache_control"),
		"thinking":          strings.Fields("type thinking signature"),
		"redacted_thinking": strings.Fields("type data"),
	}
	hostedBlocks = strings.Fields("search_result server_tool_use web_search_tool_result web_fetch_tool_result code_execution_tool_result bash_code_execution_tool_result text_editor_code_execution_tool_result tool_search_tool_result container_upload mcp_tool_use mcp_tool_result tool_reference")
	mediaTypes   = strings.Fields("image/jpeg image/png image/gif image/webp")
)

// strict returns what Anthropic's API has against a request; empty when there is
// nothing. Consecutive messages of one role are merged, as it does, except that
// the results of a turn's calls must be in one message, before anything else.
func (s *Server) strict(a *ask, h *head, counting bool) string {
	version := h.get("Anthropic-Version")
	for _, check := range []func() string{
		func() string { return strictTop(a.raws, counting) },
		func() string { return strictSampling(a.raws, version) },
		func() string { return strictThinking(a, counting) },
		func() string { return strictSystem(a.raws) },
		func() string { return strictTools(a) },
		func() string { return s.strictMessages(a, version) },
		func() string { return strictBreakpoints(a.raws) },
	} {
		if message := check(); message != "" {
			return message
		}
	}
	return ""
}

// extra names a member that is not allowed.
func extra(r raws, allowed []string, at string) string {
	var odd []string
	for k := range r {
		if !slices.Contains(allowed, k) {
			odd = append(odd, at+k+": Extra inputs are not permitted")
		}
	}
	slices.Sort(odd)
	return strings.Join(odd, "\n")
}

func strictTop(r raws, counting bool) string {
	allowed, required := requestMembers, []string{"model", "messages", "max_tokens"}
	if counting {
		allowed, required = countMembers, required[:2]
	}
	if m := extra(r, allowed, ""); m != "" {
		return m
	}
	for _, key := range required {
		if r[key] == nil {
			return key + ": Field required"
		}
	}
	for _, m := range [...]struct{ key, kind, called string }{{"model", "string", "string"}, {"messages", "array", "list"}, {"max_tokens", "number", "number"}, {"stream", "bool", "boolean"},
		{"stop_sequences", "array", "list"}, {"tools", "array", "list"}, {"tool_choice", "object", "dictionary"}, {"thinking", "object", "dictionary"}, {"metadata", "object", "dictionary"},
		{"output_config", "object", "dictionary"}, {"temperature", "number", "number"}, {"top_p", "number", "number"}, {"top_k", "number", "number"}, {"service_tier", "string", "string"}} {
		kind := kindOfJSON(r[m.key])
		if r[m.key] == nil || kind == m.kind || kind == "null" && !slices.Contains(required, m.key) && m.key != "stream" {
			continue
		}
		return m.key + ": Input should be a valid " + m.called
	}
	if r.text("model") == "" {
		return "model: String should have at least 1 character"
	}
	if r["max_tokens"] != nil && r.number("max_tokens") < 1 {
		return "max_tokens: Input should be greater than or equal to 1"
	}
	for _, stop := range r.strings("stop_sequences") {
		if strings.TrimSpace(stop) == "" {
			return "stop_sequences: each stop sequence must contain non-whitespace"
		}
	}
	if m := extra(r.sub("metadata"), []string{"user_id"}, "metadata."); m != "" {
		return m
	}
	if tier := r.text("service_tier"); tier != "" && tier != "auto" && tier != "standard_only" {
		return "service_tier: Input should be 'auto' or 'standard_only'"
	}
	c := r.sub("output_config")
	if effort := c.text("effort"); effort != "" && !slices.Contains(strings.Fields("low medium high xhigh max"), effort) {
		return "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'"
	}
	if f := c.sub("format"); f != nil && (f.text("type") != "json_schema" || kindOfJSON(f["schema"]) != "object") {
		return "output_config.format: Input should be a JSON schema"
	}
	return ""
}

func strictSampling(r raws, version string) string {
	for _, key := range []string{"temperature", "top_p", "top_k"} {
		if r.has(key) && version == newVersion {
			return key + ": Sampling parameters are not supported as of anthropic-version " + newVersion
		}
	}
	for _, key := range []string{"temperature", "top_p"} {
		var f float64
		if json.Unmarshal(r[key], &f) == nil && (f < 0 || f > 1) {
			return key + ": Input should be between 0 and 1"
		}
	}
	if r.has("temperature") && r.has("top_p") {
		return "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
	}
	return ""
}

func strictThinking(a *ask, counting bool) string {
	t := a.sub("thinking")
	typ := t.text("type")
	switch typ {
	case "":
		if t != nil {
			return "thinking.type: Field required"
		}
		return ""
	case "disabled":
		return extra(t, []string{"type"}, "thinking.disabled.")
	case "enabled":
		if m := extra(t, []string{"type", "budget_tokens", "display"}, "thinking.enabled."); m != "" {
			return m
		}
		budget := t.number("budget_tokens")
		switch {
		case !t.has("budget_tokens"):
			return "thinking.enabled.budget_tokens: Field required"
		case budget < 1024:
			return "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
		case !counting && a.number("max_tokens") <= budget:
			return "`max_tokens` must be greater than `thinking.budget_tokens`."
		}
	case "adaptive", "between_tools":
		if m := extra(t, []string{"type", "display"}, "thinking."+typ+"."); m != "" {
			return m
		}
	default:
		return "thinking: Input tag '" + typ + "' found using 'type' does not match any of the expected tags: 'disabled', 'enabled', 'adaptive', 'between_tools'"
	}
	switch choice := a.sub("tool_choice").text("type"); {
	case choice == "any" || choice == "tool":
		return "Thinking may not be enabled when tool_choice forces tool use."
	case a.has("temperature") && string(a.raws["temperature"]) != "1" && string(a.raws["temperature"]) != "1.0":
		return "`temperature` may only be set to 1 when thinking is enabled."
	case a.has("top_k"):
		return "`top_k` must be unset when thinking is enabled."
	}
	return ""
}

func strictSystem(r raws) string {
	switch kindOfJSON(r["system"]) {
	case "null", "string":
		return ""
	case "array":
	default:
		return "system: Input should be a valid string or list"
	}
	var all []json.RawMessage
	_ = json.Unmarshal(r["system"], &all) // it is an array
	for i, raw := range all {
		var b raws
		at := "system." + strconv.Itoa(i)
		if json.Unmarshal(raw, &b) != nil || b.text("type") != "text" {
			return at + ".type: Input should be 'text'"
		}
		if m := extra(b, blockMembers["text"], at+"."); m != "" {
			return m
		}
		if b.text("text") == "" {
			return "system: text content blocks must be non-empty"
		}
	}
	return ""
}

func strictTools(a *ask) string {
	names := map[string]bool{}
	var all []json.RawMessage
	_ = json.Unmarshal(a.raws["tools"], &all) // the kind was looked at
	for i, raw := range all {
		var t raws
		at := "tools." + strconv.Itoa(i)
		if json.Unmarshal(raw, &t) != nil {
			return at + ": Input should be a valid dictionary"
		}
		name := t.text("name")
		switch typ := t.text("type"); {
		case typ == "" || typ == "custom":
			at += ".custom"
			if m := extra(t, toolMembers, at+"."); m != "" {
				return m
			}
			switch {
			case t["name"] == nil:
				return at + ".name: Field required"
			case !namePattern.MatchString(name):
				return at + ".name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"
			case t["input_schema"] == nil:
				return at + ".input_schema: Field required"
			case kindOfJSON(t["input_schema"]) != "object":
				return at + ".input_schema: Input should be a valid dictionary"
			case t.sub("input_schema").text("type") != "object":
				return at + ".input_schema.type: Input should be 'object'"
			case t.has("description") && kindOfJSON(t["description"]) != "string":
				return at + ".description: Input should be a valid string"
			}
		case !strings.Contains(typ, "_20"): // hosted tools have a date
			return at + ": Input tag '" + typ + "' found using 'type' does not match any of the expected tags: 'bash_20250124', 'custom', 'text_editor_20250728', 'web_search_20250305'"
		}
		if names[name] {
			return "tools: Tool names must be unique."
		}
		names[name] = true
	}
	c := a.sub("tool_choice")
	if c == nil {
		return ""
	}
	typ := c.text("type")
	allowed := []string{"type", "disable_parallel_tool_use"}
	switch typ {
	case "auto", "any":
	case "none":
		allowed = allowed[:1]
	case "tool":
		allowed = append(allowed, "name")
		if c.text("name") == "" {
			return "tool_choice.tool.name: Field required"
		}
	default:
		return "tool_choice: Input tag '" + typ + "' found using 'type' does not match any of the expected tags: 'auto', 'any', 'tool', 'none'"
	}
	if m := extra(c, allowed, "tool_choice."+typ+"."); m != "" {
		return m
	}
	switch {
	case len(all) == 0 && typ != "none":
		return "tool_choice: tool_choice may only be specified while providing tools."
	case typ == "tool" && !names[c.text("name")]:
		return "Tool '" + c.text("name") + "' not found in provided tools"
	}
	return ""
}

// said is one message of the request.
type said struct {
	role, at string
	blocks   []raws
}

func (m said) place(i int) string { return m.at + ".content." + strconv.Itoa(i) }

// conversation reads the messages, or says what is wrong with one of them.
func conversation(r raws) ([]said, string) {
	var list []json.RawMessage
	_ = json.Unmarshal(r["messages"], &list) // the kind was looked at
	all := make([]said, 0, len(list))
	for i, raw := range list {
		m := said{at: "messages." + strconv.Itoa(i)}
		var v raws
		if json.Unmarshal(raw, &v) != nil {
			return nil, m.at + ": Input should be a valid dictionary"
		}
		switch m.role = v.text("role"); m.role {
		case "user", "assistant":
		case "system":
			return nil, "messages: Unexpected role \"system\". The Messages API accepts a top-level `system` parameter, not \"system\" as an input message role."
		default:
			return nil, m.at + ".role: Input should be 'user' or 'assistant'"
		}
		if e := extra(v, messageMembers, m.at+"."); e != "" {
			return nil, e
		}
		empty := false
		switch kindOfJSON(v["content"]) {
		case "string":
			empty = v.text("content") == ""
			if !empty {
				m.blocks = []raws{textBlock(v["content"])}
			}
		case "array":
			var blocks []json.RawMessage
			_ = json.Unmarshal(v["content"], &blocks) // it is an array
			empty = len(blocks) == 0
			for j, p := range blocks {
				var b raws
				if json.Unmarshal(p, &b) != nil {
					return nil, m.place(j) + ": Input should be a valid dictionary"
				}
				m.blocks = append(m.blocks, b)
			}
		default:
			return nil, m.at + ".content: Input should be a valid string or list"
		}
		if empty && (m.role == "user" || i < len(list)-1) {
			return nil, m.at + ": all messages must have non-empty content except for the optional final assistant message"
		}
		all = append(all, m)
	}
	return all, ""
}

func (s *Server) strictMessages(a *ask, version string) string {
	all, message := conversation(a.raws)
	switch {
	case message != "":
		return message
	case len(all) == 0:
		return "messages: at least one message is required"
	case all[0].role != "user":
		return "messages: first message must use the \"user\" role"
	}
	for _, m := range all {
		for j, b := range m.blocks {
			if e := strictBlock(m, b, m.place(j), version); e != "" {
				return e
			}
		}
	}
	if e := strictCalls(all); e != "" {
		return e
	}
	last := all[len(all)-1]
	if last.role == "assistant" {
		if a.thinks {
			return "This model does not support assistant message prefill while thinking is enabled. The conversation must end with a user message."
		}
		if n := len(last.blocks); n > 0 {
			if text := last.blocks[n-1].text("text"); strings.TrimRight(text, " \t\r\n") != text {
				return "messages: final assistant content cannot end with trailing whitespace"
			}
		}
	}
	return s.strictLoop(a, all)
}

// strictBlock checks one block by itself.
func strictBlock(m said, b raws, at, version string) string {
	typ := b.text("type")
	allowed, known := blockMembers[typ]
	if !known {
		if slices.Contains(hostedBlocks, typ) {
			return ""
		}
		return at + ": Input tag '" + typ + "' found using 'type' does not match any of the expected tags: 'document', 'image', 'redacted_thinking', 'search_result', 'server_tool_use', 'text', 'thinking', 'tool_result', 'tool_use', 'web_search_tool_result'"
	}
	if e := extra(b, allowed, at+"."+typ+"."); e != "" {
		return e
	}
	wrongRole := func(role string) string {
		return at + ": `" + typ + "` blocks can only be in `" + role + "` messages"
	}
	switch typ {
	case "text":
		switch {
		case kindOfJSON(b["text"]) != "string":
			return at + ".text.text: Input should be a valid string"
		case b.text("text") == "":
			return "messages: text content blocks must be non-empty"
		case strings.TrimSpace(b.text("text")) == "":
			return "messages: text content blocks must contain non-whitespace text"
		case version == newVersion && m.role == "user" && len(b.list("citations")) > 0:
			return at + ".text.citations: not permitted in user messages as of anthropic-version " + newVersion
		}
	case "image", "document":
		if m.role == "assistant" && (typ == "image" || version == newVersion) {
			return wrongRole("user")
		}
		return strictSource(b, at+"."+typ)
	case "tool_use":
		switch {
		case m.role != "assistant":
			return wrongRole("assistant")
		case !idPattern.MatchString(b.text("id")):
			return at + ".tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
		case b.text("name") == "":
			return at + ".tool_use.name: String should have at least 1 character"
		case kindOfJSON(b["input"]) != "object":
			return at + ".tool_use.input: Input should be a valid dictionary"
		}
	case "tool_result":
		switch {
		case m.role != "user":
			return wrongRole("user")
		case !idPattern.MatchString(b.text("tool_use_id")):
			return at + ".tool_result.tool_use_id: String should match pattern '^[a-zA-Z0-9_-]+$'"
		}
		switch kindOfJSON(b["content"]) {
		case "null", "string":
		case "array":
			for i, p := range b.list("content") {
				inner := at + ".tool_result.content." + strconv.Itoa(i)
				switch t := p.text("type"); t {
				case "text", "image", "document", "search_result", "tool_reference":
					if e := strictBlock(said{role: "user"}, p, inner, version); e != "" {
						return e
					}
				default:
					return inner + ": Input tag '" + t + "' found using 'type' does not match any of the expected tags: 'document', 'image', 'search_result', 'text', 'tool_reference'"
				}
			}
		default:
			return at + ".tool_result.content: Input should be a valid string or list"
		}
	case "thinking":
		switch {
		case m.role != "assistant":
			return wrongRole("assistant")
		case b["signature"] == nil:
			return at + ".thinking.signature: Field required"
		case b.text("signature") != signature(b.text("thinking")):
			return at + ": Invalid `signature` in `thinking` block"
		}
	case "redacted_thinking":
		switch {
		case m.role != "assistant":
			return wrongRole("assistant")
		case !isRedacted(b.text("data")):
			return at + ": Invalid `data` in `redacted_thinking` block"
		}
	}
	return ""
}

// strictSource checks where an image or a document comes from.
func strictSource(b raws, at string) string {
	src := b.sub("source")
	typ, image := src.text("type"), b.text("type") == "image"
	at += ".source"
	switch {
	case src == nil:
		return at + ": Field required"
	case typ == "base64":
		media := src.text("media_type")
		if image && !slices.Contains(mediaTypes, media) {
			return at + ".base64.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'"
		}
		if !image && media != "application/pdf" {
			return at + ".base64.media_type: Input should be 'application/pdf'"
		}
		if p, err := base64.StdEncoding.DecodeString(src.text("data")); err != nil || len(p) == 0 {
			return at + ".base64.data: Invalid base64 data"
		}
	case typ == "url":
		if !strings.HasPrefix(src.text("url"), "https://") {
			return at + ".url.url: Only HTTPS URLs are supported."
		}
	case typ == "file":
	case typ == "text" && !image:
		if src.text("media_type") != "text/plain" {
			return at + ".text.media_type: Input should be 'text/plain'"
		}
	case typ == "content" && !image:
	default:
		return at + ": Input tag '" + typ + "' found using 'type' does not match any of the expected tags: 'base64', 'url', 'file'"
	}
	return ""
}

// strictCalls checks that the results of a turn's calls are in the message that
// follows it, all of them and before anything else.
func strictCalls(all []said) string {
	seen := map[string]bool{}
	var open []string // ids that wait for their results
	lost := func(at string, ids []string) string {
		return at + ": `tool_use` ids were found without `tool_result` blocks immediately after: " + strings.Join(ids, ", ") + ". Each `tool_use` block must have a corresponding `tool_result` block in the next message."
	}
	before := ""
	for _, m := range all {
		if m.role == "assistant" {
			for _, b := range m.blocks {
				if b.text("type") != "tool_use" {
					continue
				}
				id := b.text("id")
				if seen[id] {
					return "messages: `tool_use` ids must be unique"
				}
				seen[id] = true
				open = append(open, id)
			}
			before = m.at
			continue
		}
		leading := true
		answered := map[string]bool{}
		for j, b := range m.blocks {
			if b.text("type") != "tool_result" {
				leading = false
				continue
			}
			id := b.text("tool_use_id")
			switch {
			case !slices.Contains(open, id):
				return fmt.Sprintf("%s: unexpected `tool_use_id` found in `tool_result` blocks: %s. Each `tool_result` block must have a corresponding `tool_use` block in the previous message.", m.place(j), id)
			case answered[id]:
				return fmt.Sprintf("%s: each tool_use must have a single result. Found multiple `tool_result` blocks with id: %s", m.place(j), id)
			case leading:
				answered[id] = true
			}
		}
		if left := slices.DeleteFunc(open, func(id string) bool { return answered[id] }); len(left) > 0 {
			return lost(before, left)
		}
		open = nil
	}
	if len(open) > 0 {
		return lost(before, open)
	}
	return ""
}

// strictLoop checks that thinking came back with the calls that it led to, while
// their results are being handed in.
func (s *Server) strictLoop(a *ask, all []said) string {
	typ := a.sub("thinking").text("type")
	last := all[len(all)-1]
	if typ == "" || typ == "disabled" || last.role != "user" || len(last.blocks) == 0 || last.blocks[0].text("type") != "tool_result" {
		return ""
	}
	end := len(all) - 1
	start := end
	for start > 0 && all[start-1].role == "assistant" {
		start--
	}
	first, at, must := raws(nil), "", typ == "enabled"
	for _, m := range all[start:end] {
		for j, b := range m.blocks {
			if first == nil {
				first, at = b, m.place(j)
			}
			must = must || b.text("type") == "tool_use" && s.didThink(b.text("id"))
		}
	}
	if t := first.text("type"); must && t != "thinking" && t != "redacted_thinking" {
		return at + ".type: Expected `thinking` or `redacted_thinking`, but found `" + t + "`. When `thinking` is enabled, a final `assistant` message must start with a thinking block (preceding the lastmost set of `tool_use` and `tool_result` blocks). To avoid this requirement, disable `thinking`."
	}
	return ""
}

// strictBreakpoints checks the cache_control of all blocks.
func strictBreakpoints(r raws) string {
	n, message := 0, ""
	check := func(b raws, at string) {
		if !b.has("cache_control") {
			return
		}
		n++
		c := b.sub("cache_control")
		if t := c.text("ttl"); c.text("type") != "ephemeral" {
			message = at + ".cache_control.type: Input should be 'ephemeral'"
		} else if t != "" && t != "5m" && t != "1h" {
			message = at + ".cache_control.ttl: Input should be '5m' or '1h'"
		}
	}
	check(r, "request")
	for i, t := range r.list("tools") {
		check(t, "tools."+strconv.Itoa(i))
	}
	for i, b := range r.list("system") {
		check(b, "system."+strconv.Itoa(i))
	}
	for i, m := range r.list("messages") {
		for j, b := range m.list("content") {
			at := fmt.Sprintf("messages.%d.content.%d", i, j)
			check(b, at)
			for k, p := range b.list("content") {
				check(p, at+".content."+strconv.Itoa(k))
			}
		}
	}
	if n > breakpointsMax {
		return fmt.Sprintf("A maximum of %d blocks with cache_control may be provided. Found %d.", breakpointsMax, n)
	}
	return message
}
