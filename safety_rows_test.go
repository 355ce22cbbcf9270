package main

import (
	"slices"
	"testing"
)

// safetyList are the rows of the fault list that are not about backends: what
// clients, networks, disks and clocks do, and the tests that hold what is right.
var safetyList = []listRow{
	{41, "a head or a body that drips", "408 after client.read", []string{"TestClientsThatSendSlowly"}},
	{42, "a connection that says nothing, TLS or HTTP/2 on a plain port", "closed, or 400; no shutdown waits", []string{"TestClientsThatSendSlowly", "TestOddRequestsOnTheWire", "TestBadRequests"}},
	{43, "a huge head, 500 headers, an address of 64 KiB", "431", []string{"TestOddRequestsOnTheWire", "TestBadRequests"}},
	{44, "a body beyond the limit, by its length, in chunks, with Expect", "413, and the connection is closed", []string{"TestOddRequestsOnTheWire", "TestBadRequests"}},
	{45, "100 clients with large bodies", "503 with Retry-After beyond the budget; memory stays", []string{"TestBodiesStayWithinTheirBudget", "TestAnnouncedBodiesAreGivenBack", "TestBodiesInFlightAreGivenBack"}},
	{46, "no JSON, or not an object", "400 with the place", []string{"TestBadRequests", "TestMalformedResponsesRequests", "TestMalformedMessagesRequests"}},
	{47, "JSON that nests or has members without end", "400 before any work", []string{"TestBadRequests", "TestScanRefuses"}},
	{48, "a key twice", "400 duplicate_key", []string{"TestBadRequests"}},
	{49, "keys in other cases", "other keys", []string{"TestScanFillsEnvelope"}},
	{50, "odd numbers", "unchanged to the backend", []string{"TestScanKeepsOddButValidBodies", "TestHygiene"}},
	{51, "odd letters", "unchanged to the backend", []string{"TestScanKeepsOddButValidBodies"}},
	{52, "chunks, Expect", "served", []string{"TestOddRequestsOnTheWire"}},
	{53, "two lengths, two encodings, bare line feeds, …", "400, or one request of our own making", []string{"TestOddRequestsOnTheWire"}},
	{54, "an early refusal, and a request in the body", "one answer", []string{"TestOddRequestsOnTheWire"}},
	{55, "lines and letters of control in names and headers", "in no header, no log", []string{"TestNothingIsInjected"}},
	{56, "tricks with paths", "404; who may is asked at the handler", []string{"TestOddRequestsOnTheWire"}},
	{57, "unknown paths and methods", "404, 405 with Allow; nothing is passed on", []string{"TestBadRequests", "TestOddRequestsOnTheWire"}},
	{58, "images at addresses inside", "not fetched unless the configuration says so, never from metadata services", []string{"TestRemoteImagesAreFetchedWhereAllowed", "TestAddressPolicyThroughTheProxy"}},
	{59, "wrong keys of every kind", "one 401, nothing of the key anywhere", []string{"TestOnlyValidKeysAreFound", "TestEveryEndpointNeedsAKey", "TestTheOperatorsSurfaceNeedsAnOperator"}},
	{60, "other hosts, origins, sites and types", "403, 415, before any work", []string{"TestPagesOfOthersAreTurnedAway", "TestAllowedNamesAndPages", "TestSocketUpgradeIsRefused", "TestOperatorsEndpointsAreApart"}},
	{61, "keys in errors and addresses of backends", "masked", []string{"TestKeysAreNamedAndNeverShown", "TestHygiene"}},
	{62, "lines in what a log line holds", "one line of JSON each", []string{"TestNothingIsInjected"}},
	{63, "a log on a full disk, without a reader, with a slow one", "the service goes on; log_dropped counts", []string{"TestLogThatCannotBeWritten", "TestSlowLogHoldsUpNobody", "TestFullLogIsCounted"}},
	{64, "no room for the store", "answers go on, not stored, and say so", []string{"TestFullDisk", "TestFaultStaysWithItsWrite"}},
	{65, "a store that is none, or damaged", "no start, with advice; the file is left", []string{"TestForeignAndDamagedFilesAreLeftAlone", "TestForeignFilesAreLeftAlone"}},
	{66, "a store that is locked or slow", "a bounded queue, then refused; no stream waits", []string{"TestFullQueueRefusesAtOnce", "TestFileIsOpenedOnce", "TestRowsAreLostBeforeAnybodyWaits"}},
	{69, "a configuration that is bad in every way", "the old one holds; file, line and column are told", []string{"TestReload", "TestRepairedIncludeIsPickedUp", "TestRenewedCertificate", "TestReloadTakesOverOrSays"}},
	{72, "the wall clock is set", "what lasts a time lasts it; days of the account are those of the clock", []string{"TestMomentsKeepTheMonotonicClock"}},
	{73, "no descriptors", "connections beyond are told 503; as before when they have gone", []string{"TestFewDescriptors"}},
	{74, "the memory limit", "503 before the end", []string{"TestMemoryLimitSheds"}},
	{82, "an idempotency key twice, or another's", "nothing is suppressed", []string{"TestIdempotencyKeysSuppressNothing"}},
	{83, "a response of another key", "404", []string{"TestOwnersDoNotMeet", "TestStoredIsOfItsKey"}},
}

// Every row has tests, and these exist.
func TestSafetyCoversTheFaultList(t *testing.T) {
	there := testNames(t)
	var listed, want []int
	for _, r := range safetyList {
		listed = append(listed, r.n)
		for _, name := range r.tests {
			if !there[name] {
				t.Errorf("row %d (%s) is held by %s, which does not exist", r.n, r.fault, name)
			}
		}
		if len(r.tests) == 0 {
			t.Errorf("row %d (%s) is held by nothing", r.n, r.fault)
		}
	}
	for _, span := range [][2]int{{41, 66}, {69, 69}, {72, 74}, {82, 83}} {
		for n := span[0]; n <= span[1]; n++ {
			want = append(want, n)
		}
	}
	if !slices.Equal(listed, want) {
		t.Errorf("listed %v, want %v", listed, want)
	}
}
