package config

import (
	"strconv"

	"nearside/proxy"
	"nearside/upstream"
)

// slotsWords are what slots may say in the place of a number.
var slotsWords = []string{"auto", "none"}

// slotsField is proxy.providers.<id>.slots.
func slotsField() field {
	return ours("slots", either(&shape{kind: whole}, oneOf(slotsWords...)), nearFar(strconv.Quote("auto"), strconv.Quote("none")),
		"How many requests the server (each of its endpoints) is given at once: further ones wait here, in turn by key, and not in the server's own queue. A number is llama.cpp's -np, OLLAMA_NUM_PARALLEL, a box of one GPU mostly 1 to 4. auto takes what the server says (llama.cpp, LM Studio, SGLang), else all are sent on until it shows that it serves fewer (docs/fairness.md). none sends all on.")
}

// residentField is proxy.providers.<id>.resident.
func residentField() field {
	return ours("resident", either(&shape{kind: whole, zero: true}, oneOf("auto")), nearFar(strconv.Quote("auto"), "0"),
		"How many models the server (each of its endpoints) holds in memory at once: requests for one that is loaded go first, and a model that was swapped in stays for a while. 0 for any number. auto finds out from what LM Studio and Ollama say they have loaded; write 1 for llama-swap.")
}

// setSlots reads both, and how many may wait.
func setSlots(own node, b *upstream.Config) {
	if at := own.get("slots"); at.there() {
		switch at.text() {
		case "auto":
			b.Slots = upstream.SlotsAuto
		case "none":
			b.Slots = 0
		default:
			b.Slots = at.whole()
		}
	}
	if at := own.get("resident"); at.there() {
		if b.Resident = at.whole(); at.text() == "auto" {
			b.Resident = -1
		}
	}
}

// queueFields are those of proxy.queue.
func queueFields() []field {
	d, plus, dur := proxy.DefaultQueue(), &shape{kind: whole}, &shape{kind: span}
	return []field{
		ours("shortTokens", plus, strconv.Itoa(d.Short), "Requests whose prompt is estimated at no more than this may pass longer ones of others, …"),
		ours("shortRun", plus, strconv.Itoa(d.ShortRun), "… so many times in a row."),
		ours("answerTokens", plus, strconv.Itoa(d.Answer), "What an answer is thought to come to before any was seen; then it is what a key's answers came to."),
		ours("ageing", dur, inSeconds(d.Ageing), "After this a batch request (background responses, batch keys, x-nearside-priority: batch) has every fourth turn though others wait."),
		ours("residence", dur, inSeconds(d.Residence), "How long a model that was swapped in stays on a box that holds few (resident) while others wait for another, if requests for it keep coming."),
		ours("pause", dur, inSeconds(d.Pause), "How long may lie between those requests."),
		ours("poll", dur, inSeconds(d.Poll), "How often a server that tells how many requests wait in it (vLLM) is asked, while it works for us."),
		ours("learn", obj(
			ours("evidence", plus, strconv.Itoa(d.Learn.Evidence), "How many requests more must have waited for another's end than did not, before a server that does not say its slots is given no more at once."),
			ours("least", dur, inSeconds(d.Learn.Least), "The shortest wait that shows anything."),
			ours("window", dur, inSeconds(d.Learn.Window), "For how long it is remembered how many were served at once."),
			ours("probe", dur, inSeconds(d.Learn.Probe), "After this one request more is tried; each time that shows nothing after twice as long, up to …"),
			ours("probeMax", dur, inSeconds(d.Learn.ProbeMax), "… this."),
			ours("most", plus, strconv.Itoa(d.Learn.Most), "A server that serves so many at once is not scarce, and has no limit."),
		), "", ""),
	}
}

func queueSettings(n node, q *proxy.QueueConfig) {
	n.setWhole("shortTokens", &q.Short)
	n.setWhole("shortRun", &q.ShortRun)
	n.setWhole("answerTokens", &q.Answer)
	n.setSpan("ageing", &q.Ageing)
	n.setSpan("residence", &q.Residence)
	n.setSpan("pause", &q.Pause)
	n.setSpan("poll", &q.Poll)
	learn := n.get("learn")
	learn.setWhole("evidence", &q.Learn.Evidence)
	learn.setSpan("least", &q.Learn.Least)
	learn.setSpan("window", &q.Learn.Window)
	learn.setSpan("probe", &q.Learn.Probe)
	learn.setSpan("probeMax", &q.Learn.ProbeMax)
	learn.setWhole("most", &q.Learn.Most)
}
