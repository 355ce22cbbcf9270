package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
)

// listRow is a row of the fault list and what is right, with the tests that hold
// it besides the cells of wallFaults.
type listRow struct {
	n           int
	fault, want string
	tests       []string
}

var faultList = []listRow{
	{1, "connection refused", "the next target at once; the provider's breaker counts it", []string{"TestWallUnreachable", "TestBreakerLeavesDeadBackendsAloneAndFindsThemAgain"}},
	{2, "no answer to the connect", "the next target after the connect time-out", []string{"TestWallUnreachable", "TestDepartureWhileConnecting", "TestDeadlinesNameTheirSetting"}},
	{3, "unknown name, slow name server", "as a failure to connect, within its time", []string{"TestWallUnreachable", "TestDialerEndsWithItsContext"}},
	{4, "a name that leads inside", "refused at the dial, with the setting", []string{"TestAddressPolicyThroughTheProxy", "TestDialerIsNotReboundByASecondAnswer"}},
	{5, "certificates that are expired, of another name, nobody's; TLS 1.0; no TLS; reset in the handshake", "the next target; nothing is sent in the open; the reason is told", []string{"TestWallUnreachable", "TestTLSConfigVerifiesTheHost"}},
	{6, "no headers", "the next target after the first-content budget, and the connection is closed", nil},
	{7, "headers and never content", "the same; heartbeats from 20 s on, then errors in the stream", []string{"TestHeldStreamsFailOverAndSayWhere", "TestHeldStreamsFailInBand", "TestHeldStreamsFailInTheClientsDialect"}},
	{8, "response.created, then an error", "the next target; the client sees one response of one id", []string{"TestHeldResponsesStream", "TestFailoverCrossesDialects"}},
	{9, "a role, then the end", "the next target", nil},
	{10, "silence in mid-stream", "an error event after the gap; a sample for the breaker; the place is free", nil},
	{11, "a reset in mid-stream", "an error event, never [DONE]", nil},
	{12, "the end at a chunk's boundary", "recognised as a cut", []string{"TestStreamsThatBreakEndWithTheClientsError"}},
	{13, "a Content-Length that is wrong", "recognised as a cut; further bytes are no answer", []string{"TestBodyFramingIsTheSameForEverySplit"}},
	{14, "neither length nor chunks", "taken only with the dialect's own end", nil},
	{15, "no [DONE] behind a finish", "whole; we say [DONE]", []string{"TestFinishedStreamsStayFinished"}},
	{16, "[DONE] without finish or content", "before content the next target, after it an error", nil},
	{17, "events behind [DONE]", "passed over, and the connection is closed", nil},
	{18, "an error with status 200", "judged as an error", []string{"TestWhatBackendsSayIsWhatTheyMean"}},
	{19, "429 with Retry-After in every spelling", "the next target; left alone for a time within bounds", []string{"TestRetryAfter", "TestRetryAfterIsHonoured", "TestPassedThroughIdsCoolDown"}},
	{20, "a model that is loading", "a state, not a failure", []string{"TestWhatBackendsSayIsWhatTheyMean"}},
	{21, "a web page", "the next target or 502; the page is not shown", []string{"TestLargeAnswersAreReadToTheirBound"}},
	{22, "no content type", "taken where it can be read", nil},
	{23, "a coding that was not asked for", "the next target or 502", nil},
	{24, "a decompression bomb", "never decompressed", []string{"TestLargeAnswersAreReadToTheirBound"}},
	{25, "events in every spelling and cut", "the same events", []string{"TestScannerFindsEventsHoweverCut", "TestOddStreamsAreRetoldWhole"}},
	{26, "letters cut in two, bytes that are no letters", "the same bytes", []string{"TestBodyFramingIsTheSameForEverySplit"}},
	{27, "an endless event or line", "an error at the bound", []string{"TestPreamblesAreBoundedByWhatTheyRepeat"}},
	{28, "an event that is no JSON", "before content the next target, after it an error", nil},
	{29, "calls without or with twice the same index, arguments that do not end", "mended or passed on; one end", []string{"TestMisspelledCallsAreRightInEveryDialect", "TestCallsThatBreakAreNotFinished"}},
	{30, "no usage, or odd usage", "the answer stands", []string{"TestUsageIsRecordedAndShownToWhoAsked"}},
	{31, "10000 events at once", "nothing is gathered without bound", []string{"TestWallClientThatDoesNotRead", "TestFloodIsReadInLargePieces"}},
	{32, "1xx", "passed over; 101 is a failure", nil},
	{33, "a huge head", "64 KiB, else the next target", []string{"TestHeadIsParsedStrictly"}},
	{34, "redirects", "not followed; no key goes anywhere", nil},
	{35, "an answer before the request was sent", "used, and the connection is closed", []string{"TestWallEarlyAnswers", "TestAnswerThatBeatsTheUploadersWakeUpKeepsTheConnection"}},
	{36, "a pooled connection that is dead", "once more on a fresh one; no failure", []string{"TestStaleConnectionIsTriedOnceMore"}},
	{37, "a client that reads slowly or not at all", "the backend is held back; after the write's time both ends", []string{"TestWallSlowClient", "TestWallClientThatDoesNotRead"}},
	{38, "a client that goes, in every phase", "the backend stops, nobody is blamed, 499", []string{"TestWallDepartures", "TestDepartureWhileConnecting", "TestDepartureWhileUploading", "TestDepartureWhileTheRequestArrives", "TestClientsDepartureReachesTheBackend"}},
	{39, "a client that half-closes", "is gone", []string{"TestWallDepartures"}},
	{40, "a pipelined request, then the end", "the first is stopped, the second never begins", []string{"TestWallDepartures", "TestPipelinedRequestsSurviveTheWatch"}},
	{68, "SIGTERM with streams, twice, during the start", "drain, then an error event each; exit 0 or 1", []string{"TestDrain", "TestWallSecondSignalEndsWhatRuns", "TestWallSignalDuringStart"}},
	{70, "a provider goes while its streams run", "they finish; new ones do not find it", []string{"TestWallReloadsUnderLoad", "TestReload"}},
	{71, "100 changes a second under load, and on trial", "nothing is left; breakers of what did not change know what they knew", []string{"TestWallReloadsUnderLoad", "TestWallTrials", "TestAdoptKeepsOpenUntil"}},
	{75, "a panic", "500 or an error event; the process lives; the stack is logged, the body is not", []string{"TestPanicsEndTheirExchangeAlone"}},
	{76, "all are left alone", "503 at once, with which and until when", []string{"TestWallAllOpen", "TestAllBreakersOpen"}},
	{77, "up and down in turns", "asked less and less while down; no request fails for it", []string{"TestWallFlapping", "TestGrowthOutlivesAShortRecovery"}},
	{78, "a trial that hangs", "its lease ends; another may try", []string{"TestWallTrials", "TestLeaseGivesALostProbeBack"}},
	{79, "a herd after recovery", "one tries, the others go elsewhere until it is well", []string{"TestWallTrials", "TestOneProbeAmongManyCallers"}},
}

// Every row of the list has its cells or its tests, and these exist. With -v it
// prints which.
func TestWallCoversTheFaultList(t *testing.T) {
	there := testNames(t)
	rows := map[int][]string{}
	for i := range wallFaults {
		f := &wallFaults[i]
		for _, n := range f.rows {
			rows[n] = append(rows[n], f.name)
		}
	}
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "row\tfault\twhat is right\theld by")
	for _, r := range faultList {
		by := slices.Clone(r.tests)
		if cells := rows[r.n]; len(cells) > 0 {
			by = append([]string{"TestWallFaults (" + strings.Join(cells, ", ") + ")"}, by...)
		}
		if len(by) == 0 {
			t.Errorf("row %d (%s) is held by nothing", r.n, r.fault)
		}
		for _, name := range r.tests {
			if !there[name] {
				t.Errorf("row %d (%s) is held by %s, which does not exist", r.n, r.fault, name)
			}
		}
		fmt.Fprintf(tw, "%d\t%s\t%s\t%s\n", r.n, r.fault, r.want, strings.Join(by, ", "))
		delete(rows, r.n)
	}
	tw.Flush()
	for n := range rows {
		t.Errorf("cells are for row %d, which is not in the list", n)
	}
	var listed []int
	for _, r := range faultList {
		listed = append(listed, r.n)
	}
	var want []int
	for _, span := range [][2]int{{1, 40}, {68, 68}, {70, 71}, {75, 79}} {
		for n := span[0]; n <= span[1]; n++ {
			want = append(want, n)
		}
	}
	if !slices.Equal(listed, want) {
		t.Errorf("listed %v, want %v", listed, want)
	}
	t.Logf("\n%s", b.String())
}

// testNames are the names of all tests of the repository.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	there := map[string]bool{}
	decl := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range decl.FindAllSubmatch(text, -1) {
			there[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return there
}
