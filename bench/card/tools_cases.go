package card

import (
	"github.com/goccy/go-json"

	"nearside/bench/measure"
)

// toolCase is something to ask, and what should be called.
type toolCase struct {
	name     string
	tools    []string
	choice   string
	messages []measure.Message
	want     []wantCall // none where nothing is to be called
	says     []string   // one of which the answer then has to contain; anything when empty
}

// wantCall is a call that should be made: of any tool where it names none.
type wantCall struct {
	tool string
	args map[string]match
}

type args = map[string]match

func call(tool string, a args) wantCall { return wantCall{tool, a} }

func schema(text string) json.RawMessage { return json.RawMessage(text) }

// tools are those of all cases.
var tools = []measure.Tool{
	{Name: "get_weather", Description: "Current weather in a city.", Schema: schema(`{"type":"object","properties":{"city":{"type":"string","description":"Name of the city"},"unit":{"type":"string","enum":["celsius","fahrenheit"]}},"required":["city"],"additionalProperties":false}`)},
	{Name: "get_forecast", Description: "Weather forecast for coming days in a city. Not for the weather now.", Schema: schema(`{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer","minimum":1,"maximum":14}},"required":["city","days"],"additionalProperties":false}`)},
	{Name: "set_timer", Description: "Starts a timer.", Schema: schema(`{"type":"object","properties":{"minutes":{"type":"integer","minimum":1},"label":{"type":"string"}},"required":["minutes"],"additionalProperties":false}`)},
	{Name: "set_light", Description: "Sets a lamp.", Schema: schema(`{"type":"object","properties":{"room":{"type":"string","enum":["kitchen","hallway","bedroom","study"]},"colour":{"type":"string","enum":["white","red","green","blue"]},"brightness":{"type":"integer","minimum":0,"maximum":100}},"required":["room","brightness"],"additionalProperties":false}`)},
	{Name: "set_temperature", Description: "Sets the temperature of a device.", Schema: schema(`{"type":"object","properties":{"device":{"type":"string","enum":["oven","fridge","freezer"]},"celsius":{"type":"number"}},"required":["device","celsius"],"additionalProperties":false}`)},
	{Name: "search_flights", Description: "Finds flights between two cities on a day. Books nothing.", Schema: schema(`{"type":"object","properties":{"from":{"type":"string"},"to":{"type":"string"},"date":{"type":"string","format":"date","description":"YYYY-MM-DD"},"passengers":{"type":"integer","minimum":1}},"required":["from","to","date"],"additionalProperties":false}`)},
	{Name: "book_flight", Description: "Books a seat on a flight by its number.", Schema: schema(`{"type":"object","properties":{"flight":{"type":"string","description":"Such as LH302"},"passenger":{"type":"string","description":"Full name"}},"required":["flight","passenger"],"additionalProperties":false}`)},
	{Name: "create_event", Description: "Puts an event into the calendar.", Schema: schema(`{"type":"object","properties":{"title":{"type":"string"},"start":{"type":"object","properties":{"date":{"type":"string","description":"YYYY-MM-DD"},"time":{"type":"string","description":"HH:MM, 24 hours"}},"required":["date","time"],"additionalProperties":false},"attendees":{"type":"array","items":{"type":"string","description":"First name"}}},"required":["title","start"],"additionalProperties":false}`)},
	{Name: "convert_currency", Description: "Converts an amount of money at today's rate.", Schema: schema(`{"type":"object","properties":{"amount":{"type":"number"},"from":{"type":"string","description":"ISO 4217 code"},"to":{"type":"string","description":"ISO 4217 code"}},"required":["amount","from","to"],"additionalProperties":false}`)},
	{Name: "read_file", Description: "Reads a file of the project.", Schema: schema(`{"type":"object","properties":{"path":{"type":"string"}},"required":["path"],"additionalProperties":false}`)},
	{Name: "write_file", Description: "Writes a file of the project.", Schema: schema(`{"type":"object","properties":{"path":{"type":"string"},"content":{"type":"string"}},"required":["path","content"],"additionalProperties":false}`)},
	{Name: "run_command", Description: "Runs a shell command exactly as given and returns what it prints.", Schema: schema(`{"type":"object","properties":{"command":{"type":"string"}},"required":["command"],"additionalProperties":false}`)},
	{Name: "send_message", Description: "Sends a chat message to a person.", Schema: schema(`{"type":"object","properties":{"to":{"type":"string"},"text":{"type":"string"}},"required":["to","text"],"additionalProperties":false}`)},
	{Name: "set_notifications", Description: "Turns notifications on or off.", Schema: schema(`{"type":"object","properties":{"enabled":{"type":"boolean"}},"required":["enabled"],"additionalProperties":false}`)},
	{Name: "statistics", Description: "Computes a figure over numbers.", Schema: schema(`{"type":"object","properties":{"numbers":{"type":"array","items":{"type":"number"}},"figure":{"type":"string","enum":["mean","median","sum"]}},"required":["numbers","figure"],"additionalProperties":false}`)},
	{Name: "search_wiki", Description: "Searches the team's wiki.", Schema: schema(`{"type":"object","properties":{"query":{"type":"string"},"limit":{"type":"integer"}},"required":["query"],"additionalProperties":false}`)},
}

var (
	weather = []string{"get_weather", "get_forecast", "set_timer"}
	home    = []string{"set_light", "set_temperature", "set_timer", "set_notifications"}
	travel  = []string{"search_flights", "book_flight", "convert_currency", "create_event"}
	coding  = []string{"read_file", "write_file", "run_command", "search_wiki"}
)

// toolCases are small on purpose: a model of a few billion parameters can do all of
// them, so that what fails is mostly the server's template, parser or grammar.
var toolCases = []toolCase{
	{name: "a city and a unit", tools: weather, messages: user("What is the weather in Paris right now, in celsius?"), want: []wantCall{call("get_weather", args{"city": has("Paris"), "unit": is("celsius")})}},
	{name: "the like tool beside it", tools: weather, messages: user("Give me the forecast for Lisbon for the next 5 days."), want: []wantCall{call("get_forecast", args{"city": has("Lisbon"), "days": number(5)})}},
	{name: "an integer", tools: home, messages: user("Start a timer of 12 minutes."), want: []wantCall{call("set_timer", args{"minutes": number(12)})}},
	{name: "values of enums", tools: home, messages: user("Make the lamp in the hallway blue, at 40 percent."), want: []wantCall{call("set_light", args{"room": is("hallway"), "colour": is("blue"), "brightness": number(40)})}},
	{name: "a negative number", tools: home, messages: user("Set the freezer to minus 18 degrees celsius."), want: []wantCall{call("set_temperature", args{"device": is("freezer"), "celsius": number(-18)})}},
	{name: "a truth value", tools: home, messages: user("Please turn my notifications off."), want: []wantCall{call("set_notifications", args{"enabled": truth(false)})}},
	{name: "four arguments", tools: travel, messages: user("Search flights from Oslo to Rome on 2027-05-03 for 2 passengers."), want: []wantCall{call("search_flights", args{"from": has("Oslo"), "to": has("Rome"), "date": is("2027-05-03"), "passengers": number(2)})}},
	{name: "book, not search", tools: travel, messages: user("Book flight SK4711 for Ada Lovelace."), want: []wantCall{call("book_flight", args{"flight": is("SK4711"), "passenger": is("Ada Lovelace")})}},
	{name: "objects and lists", tools: travel, messages: user("Put an event called Budget review into the calendar, on 2027-03-09 at 14:30, with Mia and Jonas."), want: []wantCall{call("create_event", args{"title": is("Budget review"), "start": members(args{"date": is("2027-03-09"), "time": is("14:30")}), "attendees": list(is("Mia"), is("Jonas"))})}},
	{name: "codes of currencies", tools: travel, messages: user("How much are 250 US dollars in euros today?"), want: []wantCall{call("convert_currency", args{"amount": number(250), "from": is("USD"), "to": is("EUR")})}},
	{name: "letters beyond ASCII", tools: coding, messages: user("Read the file docs/Über uns.md"), want: []wantCall{call("read_file", args{"path": just("docs/Über uns.md")})}},
	{name: "quotes in a command", tools: coding, messages: user(`Run exactly this command: grep -n "a b" src/main.go`), want: []wantCall{call("run_command", args{"command": just(`grep -n "a b" src/main.go`)})}},
	{name: "lines in a text", tools: coding, messages: user("Write the file notes.txt with exactly two lines: the first is alpha, the second is beta."), want: []wantCall{call("write_file", args{"path": is("notes.txt"), "content": func(v any) bool { s, _ := v.(string); return trimLines(s) == "alpha\nbeta" }})}},
	{name: "quotes and a backslash", tools: []string{"send_message", "set_timer"}, messages: user(`Send Kim this message, to the letter: She said "yes" \o/ & left`), want: []wantCall{call("send_message", args{"to": is("Kim"), "text": just(`She said "yes" \o/ & left`)})}},
	{name: "numbers in a list", tools: []string{"statistics", "set_timer"}, messages: user("What is the mean of 3, 5.5 and 10? Use the tool."), want: []wantCall{call("statistics", args{"numbers": list(number(3), number(5.5), number(10)), "figure": is("mean")})}},
	{name: "an optional argument left out", tools: coding, messages: user("Search the wiki for pump maintenance."), want: []wantCall{call("search_wiki", args{"query": has("pump"), "limit": func(v any) bool { return v == nil }})}},

	{name: "no call for a sum", tools: weather, messages: user("What is two plus three? Answer with the number only."), says: []string{"5", "five"}},
	{name: "no call for thanks", tools: travel, messages: user("Thank you, that was all!")},
	{name: "no call for a poem", tools: []string{"send_message", "set_timer", "search_wiki"}, messages: user("Write two lines of a poem about rain. Do not send it to anyone.")},
	{name: "tool_choice none", tools: weather, choice: "none", messages: user("What is the weather in Rome right now?")},
	{name: "tool_choice required", tools: weather, choice: "required", messages: user("I am in Bergen and wonder whether I need an umbrella now."), want: []wantCall{call("get_weather", args{"city": has("Bergen")})}},
	{name: "tool_choice of a tool", tools: weather, choice: "get_forecast", messages: user("I will be in Bergen for the next 3 days."), want: []wantCall{call("get_forecast", args{"city": has("Bergen"), "days": number(3)})}},

	{name: "two cities at once", tools: weather, messages: user("What is the weather right now in Oslo and in Lima? Look both up at once."), want: []wantCall{call("get_weather", args{"city": has("Oslo")}), call("get_weather", args{"city": has("Lima")})}},
	{name: "two tools at once", tools: []string{"get_weather", "convert_currency"}, messages: user("At once, please: the weather in Madrid now, and 100 GBP in JPY."), want: []wantCall{call("get_weather", args{"city": has("Madrid")}), call("convert_currency", args{"amount": number(100), "from": is("GBP"), "to": is("JPY")})}},
	{name: "three lamps at once", tools: home, messages: user("Set the lamps in the kitchen, the bedroom and the study to 10 percent, all at once."), want: []wantCall{call("set_light", args{"room": is("kitchen"), "brightness": number(10)}), call("set_light", args{"room": is("bedroom"), "brightness": number(10)}), call("set_light", args{"room": is("study"), "brightness": number(10)})}},

	{name: "a result is used", tools: weather, messages: after("What is the weather in Turku right now?", "get_weather", `{"city":"Turku"}`, `{"celsius": 17, "sky": "hail"}`), says: []string{"hail"}},
	{name: "a failed result is told", tools: coding, messages: after("What does the file plan.txt say?", "read_file", `{"path":"plan.txt"}`, "error: plan.txt: no such file"), says: []string{"no such", "not exist", "n't exist", "not found", "not find", "n't find", "not be found", "n't be found", "no file", "missing", "not there", "unable", "could not", "couldn't", "cannot", "can't"}},
	{name: "a result leads to a call", tools: travel, messages: after("Find flights from Bonn to Kiel on 2027-02-01 and book the cheapest one for Alan Turing.", "search_flights", `{"from":"Bonn","to":"Kiel","date":"2027-02-01"}`, `[{"flight":"LH302","eur":210},{"flight":"EW88","eur":95},{"flight":"KL9","eur":140}]`), want: []wantCall{call("book_flight", args{"flight": is("EW88"), "passenger": is("Alan Turing")})}},
}

// after is a conversation in which a tool was called, and its result has come.
func after(question, tool, arguments, result string) []measure.Message {
	const id = "call00001" // nine letters and digits, which is all that some templates take
	return []measure.Message{{Role: "user", Text: question}, {Role: "assistant", Calls: []measure.Call{{ID: id, Name: tool, Arguments: arguments}}}, {Role: "tool", CallID: id, Text: result}}
}
