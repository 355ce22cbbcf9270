package shaping

import (
	"regexp"
	"slices"
	"strings"

	"nearside/catalog"
)

// schemaCore are keywords without which a schema says nothing any more.
var schemaCore = []string{"type", "properties", "items", "required", "description", "enum", "name", "parameters"}

// fieldSays are the words in which servers complain about a field. The group is
// its name or path, or a list of them.
var fieldSays = []string{
	`unrecognized request arguments? supplied: ([\w., ]+)`,
	`(?:unknown|unsupported|unrecognized|unexpected|invalid) (?:openai )?(?:parameter|field|argument|property|option|attribute)\(?s?\)?:? ?(?:named |called )?['"\x60\[(]{0,2}([\w.\[\]]+)`,
	`extra inputs are not permitted.{0,40}\(param ([\w.\[\]]+)\)`,
	`'extra_forbidden'.{0,20}'loc': \(?\[?(?:'body', )?'?([\w.]+(?:', '?[\w.]+|, \d+)*)`,
	`(?:^|\n|for \w+ )\s*([\w.]+)\s*\n?\s*:?\s*extra inputs are not permitted`,
	`([\w.\[\]]+): extra inputs are not permitted`,
	`unexpected keyword argument '(\w+)'`,
	`additional properties are not allowed \(([^)]+?) (?:was|were) unexpected`,
	`unknown name "([^"]+)"(?: at ''|: cannot find field| at 'generation_config)`,
	`property ['"\x60]([\w.\[\]]+)['"\x60] is (?:unsupported|not supported)`,
	`extraneous key \[(\w+)\]`,
	`does not support (?:the )?(?:parameter|field|option|argument)s?:? ?[\[{('"\x60]{0,3}([\w.]+)`,
	`argument not supported on this model: (\w+)`,
	`(?:parameter|field|argument|property|option|key)s?:? ['"\x60]?([\w.\[\]]+)['"\x60]? (?:is|are) (?:not |un)(?:supported|recogni[sz]ed|allowed|permitted|known|expected|enabled)`,
	`['"\x60]([\w.\[\]]+)['"\x60]:? (?:is|are) (?:not |un|currently not )(?:supported|recogni[sz]ed|allowed|permitted|known|expected|implemented)`,
	`['"\x60]([\w.\[\]]+)['"\x60] does not support .{1,60}only the default`,
	`invalid (\w+): only [\d.]+ is allowed`,
	`\b([a-z]+(?:_[a-z]+)+) (?:is|are) (?:not |un|currently not )(?:supported|recogni[sz]ed|allowed|permitted|implemented)`,
	`(?:not permitted|not supported|unsupported|unknown|unexpected|extra_forbidden).{0,60}\(param ([\w.\[\]]+)\)`,
}

// unguessedFields are fields that are never left out because a backend does not know them:
// without them the answer would be to another question.
var unguessedFields = []string{"model", "messages", "input", "prompt", "stream", "n", "stop", "modalities", "audio", "previous_response_id", "conversation",
	"instructions", "text", "background", "truncation"}

// fieldTaught answers a complaint about a field: by the flag that the field has,
// or else by leaving it out, with the others that are named beside it.
func fieldTaught(q *question) (taught *catalog.Compat) {
	for _, path := range pathWords.FindAllString(q.about[1], 8) {
		c := q.field(path)
		switch {
		case c == nil:
		case taught == nil:
			taught = c
		case taught.UnsupportedFields != nil:
			for _, name := range c.UnsupportedFields {
				if !slices.Contains(taught.UnsupportedFields, name) {
					taught.UnsupportedFields = append(taught.UnsupportedFields, name)
				}
			}
		}
	}
	return taught
}

var pathWords = regexp.MustCompile(`[\w$]+(?:(?:\[\d+\]|\.[\w$]+|', '?[\w$]+|, \d+))*`)

// field is fieldTaught for one path: messages[0].name, messages.0.name, seed.
func (q *question) field(path string) *catalog.Compat {
	steps := strings.FieldsFunc(path, func(r rune) bool { return strings.ContainsRune(".[]', ", r) })
	if len(steps) > 1 && steps[0] == "body" {
		steps = steps[1:]
	}
	if len(steps) == 0 {
		return nil
	}
	last := steps[len(steps)-1]
	switch {
	case len(steps) > 1 && steps[0] == "messages":
		return q.messageKey(last)
	case len(steps) > 1 && steps[0] == "tools":
		if last == "strict" {
			return q.toolStrict()
		}
		if q.sent.schemas(last) && !slices.Contains(schemaCore, last) {
			return &catalog.Compat{UnsupportedToolSchemaKeywords: []string{last}}
		}
		return nil
	}
	if name := q.sent.field(steps[0]); name != "" {
		return q.topLevel(name)
	}
	if len(steps) == 1 {
		if c := q.messageKey(last); c != nil {
			return c
		}
		if last == "strict" {
			return q.toolStrict()
		}
	}
	return nil
}

func (q *question) toolStrict() *catalog.Compat {
	if q.sent.any("tools", func(t []byte) bool { return memberOf(t, "function", "strict") != nil || memberOf(t, "strict") != nil }) {
		return &catalog.Compat{SupportsStrictMode: isFalse}
	}
	return nil
}

// messageKey answers a complaint about a member of messages.
func (q *question) messageKey(name string) *catalog.Compat {
	switch name {
	case "role", "content", "tool_calls", "tool_call_id":
		return nil
	}
	if !q.sent.key(name) {
		return nil
	}
	switch name {
	case "reasoning_content", "reasoning":
		return &catalog.Compat{Own: catalog.Own{ReasoningField: "drop"}}
	}
	return &catalog.Compat{Own: catalog.Own{UnsupportedMessageKeys: []string{name}}}
}

// topLevel answers a complaint about a top-level member that was sent.
func (q *question) topLevel(name string) *catalog.Compat {
	if slices.Contains(unguessedFields, name) {
		return nil
	}
	switch name {
	case "tools", "functions":
		return &catalog.Compat{SupportsTools: isFalse}
	case "stream_options":
		return &catalog.Compat{SupportsUsageInStreaming: isFalse}
	case "parallel_tool_calls":
		return &catalog.Compat{Own: catalog.Own{SupportsParallelToolCalls: isFalse}}
	case "temperature":
		return &catalog.Compat{SupportsTemperature: isFalse}
	case "max_tokens":
		return &catalog.Compat{MaxTokensField: "max_completion_tokens"}
	case "max_completion_tokens":
		return &catalog.Compat{MaxTokensField: "max_tokens"}
	case "reasoning_effort":
		return &catalog.Compat{SupportsReasoningEffort: isFalse}
	case "response_format":
		if q.sent.format("json_schema") {
			return &catalog.Compat{SupportsJSONSchemaResponseFormat: isFalse}
		}
		return &catalog.Compat{Own: catalog.Own{SupportsJSONObjectFormat: isFalse}}
	}
	return &catalog.Compat{Own: catalog.Own{UnsupportedFields: []string{name}}}
}

// effortWords are the efforts that a list may hold.
var effortWords = regexp.MustCompile(`(?i)\b(none|off|minimal|low|medium|high|xhigh|max|default|on)\b`)

// effortList tells a list of efforts from a sentence: on, off, none and default
// are words of every sentence.
var effortList = regexp.MustCompile(`(?i)\b(?:minimal|low|medium|high|xhigh|max)\b|['"\x60](?:none|off|default|on)['"\x60]`)

// effortsTaught reads the list of efforts that a refusal names.
func effortsTaught(q *question) *catalog.Compat {
	asked := q.sent.effort()
	if asked == "" {
		return nil
	}
	var list []string
	for _, w := range effortWords.FindAllString(q.about[1], -1) {
		if w = strings.ToLower(w); !slices.Contains(list, w) {
			list = append(list, w)
		}
	}
	if len(list) == 0 || slices.Contains(list, asked) || !effortList.MatchString(q.about[1]) {
		return nil
	}
	return &catalog.Compat{SupportedReasoningEfforts: list}
}
