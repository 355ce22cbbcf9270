package workload

import (
	_ "embed"

	"github.com/goccy/go-json"

	"nearside/bench/measure"
)

// instructions are as long as those of the agents whose requests were recorded.
//
//go:embed agent.md
var instructions string

type object = map[string]any

// agentTools are those of a coding agent and of three services beside it, 19 KB of
// schemas: what recorded agents send.
func agentTools() []measure.Tool {
	text := func(about string) object { return object{"type": "string", "description": about} }
	whole := func(about string, low, high int) object {
		return object{"type": "integer", "description": about, "minimum": low, "maximum": high}
	}
	truth := func(about string) object { return object{"type": "boolean", "description": about} }
	list := func(about string, of object) object {
		return object{"type": "array", "description": about, "items": of}
	}
	one := func(about string, of ...string) object {
		return object{"type": "string", "description": about, "enum": of}
	}
	tool := func(name, about string, members object, required ...string) measure.Tool {
		return measure.Tool{Name: name, Description: about, Schema: raw(object{"type": "object", "properties": members, "required": required, "additionalProperties": false})}
	}
	file := text("Path of the file, absolute or relative to the root of the repository. Must not contain variables; a leading ~ is not expanded.")
	all := []measure.Tool{
		tool("exec_command", "Runs a command in a pseudo terminal and returns its output, or, when it runs longer than yield_time_ms, what it has printed so far and a session that write_stdin goes on with. The working directory is the root of the repository unless workdir says otherwise. Commands that change files outside of it need escalated permissions and a justification that is shown to the user.", object{
			"cmd": text("The command line, for the user's own shell."), "workdir": text("Directory to run it in; the root of the repository when absent."), "shell": text("Shell binary; the user's own when absent."),
			"login": truth("Whether the shell reads the login files first. Slower, and needed only where the user's PATH is."), "tty": truth("Whether the command believes that it writes to a terminal."),
			"yield_time_ms": whole("How long to wait for output before the call returns.", 250, 600000), "max_output_tokens": whole("What is longer is cut in the middle.", 100, 100000),
			"permissions":   one("What it may do.", "default", "escalated"),
			"justification": text("One sentence for the user that says why escalated permissions are needed. Only with permissions escalated."),
			"prefix_rule":   list("Words that commands have to begin with so that the user is not asked again, such as [\"git\",\"pull\"].", object{"type": "string"})}, "cmd"),
		tool("write_stdin", "Writes characters to a running command and returns what it printed since. Empty characters only wait.", object{
			"session_id": whole("The session that exec_command returned.", 1, 1<<30), "chars": text("What to write; \\u0003 interrupts."),
			"yield_time_ms": whole("How long to wait for output.", 250, 600000), "max_output_tokens": whole("What is longer is cut in the middle.", 100, 100000)}, "session_id"),
		tool("read_file", "Reads lines of a text file, each with its number. Large files are read in parts; binary files are refused with their size and kind.", object{
			"path": file, "first": whole("The first line, from 1.", 1, 10000000), "last": whole("The last line; 400 lines behind the first when absent.", 1, 10000000)}, "path"),
		tool("edit_file", "Replaces pieces of a file. Each piece must stand in it exactly once, with its indentation; the call fails as a whole when one does not, and nothing is written then.", object{
			"path": file, "edits": list("What to replace, in any order; they may not overlap.", object{"type": "object", "properties": object{
				"old": text("The piece as it stands, with enough around it to be unique."), "new": text("What takes its place; empty removes it."),
				"all": truth("Whether every occurrence is replaced.")}, "required": []string{"old", "new"}, "additionalProperties": false}),
			"dry_run": truth("Whether to return the difference and write nothing.")}, "path", "edits"),
		tool("write_file", "Creates a file or replaces all of it. Prefer edit_file for files that exist.", object{"path": file, "content": text("All of the new file, with its last newline."),
			"executable": truth("Whether the file may be run."), "parents": truth("Whether directories on the way are created.")}, "path", "content"),
		tool("search", "Finds lines by a regular expression (RE2) in the files that git knows, most relevant files first.", object{"pattern": text("The expression; (?i) ignores case."),
			"paths": list("Globs that files must match, such as **/*.go; a leading ! excludes.", object{"type": "string"}), "context": whole("Lines around each hit.", 0, 20), "most": whole("Hits at most.", 1, 500),
			"mode": one("What to return.", "lines", "files", "counts")}, "pattern"),
		tool("update_plan", "Tells the user the steps of the work and how far it is. At most one step is under way.", object{"explanation": text("What changed in the plan, and why."),
			"plan": list("All steps, done ones too.", object{"type": "object", "properties": object{"step": text("A few words."), "status": one("How far it is.", "pending", "in_progress", "completed")}, "required": []string{"step", "status"}, "additionalProperties": false})}, "plan"),
		tool("ask_user", "Asks the user up to three short questions, each with choices, and waits. For what cannot be found out otherwise.", object{"questions": list("One to three questions.", object{"type": "object", "properties": object{
			"id": text("A name for the answer, in snake_case."), "header": text("Twelve characters at most."), "question": text("One sentence."),
			"options": list("Two or three choices that exclude each other, the recommended one first. Do not offer a choice \"other\"; there is always one.", object{"type": "object", "properties": object{"label": text("One to five words."), "description": text("What follows from the choice, in a sentence.")}, "required": []string{"label", "description"}, "additionalProperties": false})}, "required": []string{"id", "header", "question", "options"}, "additionalProperties": false})}, "questions"),
		tool("view_image", "Shows an image of the file system to the model.", object{"path": file}, "path"),
	}
	// Services beside the agent, as tool servers offer them: alike, and many.
	for _, s := range [...]struct{ name, about string }{{"issues", "the project's issue tracker"}, {"pages", "the team's wiki"}, {"builds", "the continuous integration"}} {
		filter := object{"type": "object", "description": "Conditions that all have to hold.", "properties": object{
			"author": text("Login of whoever made it."), "assignee": text("Login of whoever has it now; \"none\" for nobody."), "labels": list("All of these.", object{"type": "string"}),
			"state": one("What became of it.", "open", "closed", "draft", "any"), "since": object{"type": "string", "format": "date-time", "description": "Changed at or after this moment (RFC 3339)."},
			"until": object{"type": "string", "format": "date-time", "description": "Changed before this moment (RFC 3339)."}}, "additionalProperties": false}
		content := object{"title": text("One line without markup."), "body": text("Markdown. Mentions of people notify them."), "labels": list("Labels; those that do not exist yet are refused.", object{"type": "string"}),
			"assignees":   list("Logins.", object{"type": "string"}),
			"attachments": list("Files beside it.", object{"type": "object", "properties": object{"name": text("Name of the file."), "media_type": text("Such as image/png."), "url": object{"type": "string", "format": "uri", "description": "Where it can be fetched from."}}, "required": []string{"name", "url"}, "additionalProperties": false})}
		all = append(all,
			tool(s.name+"_search", "Searches "+s.about+" by words and conditions. Returns at most limit entries, newest first, and a cursor where there are more.", object{"query": text("Words that all have to occur; empty finds everything."), "filter": filter,
				"sort": one("The order.", "created", "updated", "relevance"), "limit": whole("Entries at most.", 1, 100), "cursor": text("From the answer before, to go on.")}, "query"),
			tool(s.name+"_get", "Returns one entry of "+s.about+" with its whole text and its history.", object{"id": whole("Its number.", 1, 1<<30), "comments": truth("Whether comments are returned too."), "revision": whole("An earlier revision; the newest when absent.", 1, 1<<30)}, "id"),
			tool(s.name+"_create", "Creates an entry in "+s.about+". The user sees it under their own name.", content, "title", "body"),
			tool(s.name+"_update", "Changes an entry of "+s.about+". What is absent stays as it is.", object{"id": whole("Its number.", 1, 1<<30), "revision": whole("The revision that was read; the call fails when there is a newer one.", 1, 1<<30),
				"changes": object{"type": "object", "description": "The members that change.", "properties": content, "additionalProperties": false}, "comment": text("Why, for the history.")}, "id", "revision", "changes"))
	}
	return all
}

// raw is JSON of what is ours and can be written.
func raw(v any) json.RawMessage {
	p, err := json.MarshalWithOption(v, json.DisableHTMLEscape())
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return p
}

// tasks are what users ask of agents.
var tasks = []string{
	"The nightly job fails since Tuesday with \"connection reset\" in the upload step. Find out why, and mend it so that a reset is retried and a refusal is not.",
	"Add a flag --since to the export command. It takes a date or a duration such as 36h; rows before it are left out. Tests and the page of the manual belong to it.",
	"The list of orders takes four seconds for customers with many of them. Measure where the time goes, make it fast, and show the numbers before and after.",
	"Rename the package billing to invoices everywhere, documents included, without breaking those who import the old name.",
	"Review the last three commits on this branch for mistakes in error handling, and write down what you would change, worst first.",
	"Users report that dates of the summary are a day off in the evening. Write a test that shows it, then mend it.",
}
