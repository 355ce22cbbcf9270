package config

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"nearside/catalog"
	"nearside/proxy/access"
)

const twoPlaces = `models: {providers: {
  lmstudio: {baseUrl: "http://127.0.0.1:1234/v1", models: [{id: "qwen"}]},
  hosted: {baseUrl: "https://api.example.com/v1", apiKey: "sk-1", models: [{id: "big"}]},
}}, agents: {defaults: {model: {primary: "lmstudio/qwen", fallbacks: ["hosted/big"]}}},`

// Where requests may go is what the file says: what stands nowhere has the
// defaults, a chain stands over the whole, a key says only what it takes.
func TestPolicyIsRead(t *testing.T) {
	sum := sha256.Sum256([]byte("laptop-key"))
	c := loaded(t, `{`+twoPlaces+`proxy: {
  policy: {regions: [" EU "], overflow: {queue: false, queueWaitMs: 250}},
  chains: {
    default: {nearOnly: true},
    work: {models: ["lmstudio/qwen", "hosted/big"], regions: ["us"], overflow: {failure: false, largerContext: true}, hedge: {enabled: true, afterSeconds: 3}, continueStreams: true},
    plain: ["hosted/big"],
  },
  keys: {laptop: {sha256: "`+strings.ToUpper(hex.EncodeToString(sum[:]))+`", overflow: {context: false, loadingWaitSeconds: 60}, regions: ["eu"]}},
  providers: {hosted: {region: "EU"}, lmstudio: {near: true}},
  models: {"lmstudio/Qwen": {nearOnly: true}, "hosted/big": {region: "us"}, "hosted/unlisted": {region: "eu"}},
  network: {offlineMs: 0, offlineMaxSeconds: 3},
}}`)
	base := catalog.DefaultPolicy()
	base.Regions, base.Overflow.Queue, base.Overflow.QueueWait = []string{"eu"}, false, 250*time.Millisecond
	near := base
	near.NearOnly = true
	work := base
	work.Regions, work.Overflow.Failure, work.Overflow.LargerContext, work.Hedge.Enabled, work.Hedge.After, work.Continue = []string{"us"}, false, true, true, 3*time.Second, true
	if diff := cmp.Diff(base, c.Proxy.Policy); diff != "" {
		t.Errorf("proxy.policy: %s", diff)
	}
	for name, want := range map[string]*catalog.Policy{"default": &near, "work": &work, "plain": nil} {
		for _, ch := range c.Chains {
			if ch.Name == name {
				if diff := cmp.Diff(want, ch.Policy); diff != "" {
					t.Errorf("chain %s: %s", name, diff)
				}
			}
		}
	}
	key := catalog.Widest()
	key.Regions, key.Overflow.Context, key.Overflow.LoadingWait = []string{"eu"}, false, time.Minute
	if diff := cmp.Diff([]access.Key{{Sum: sum, Grant: access.Grant{ID: "laptop", Policy: key}}}, c.Keys, cmpopts.IgnoreUnexported(access.Grant{})); diff != "" {
		t.Errorf("keys: %s", diff)
	}
	if got := c.provider("hosted"); got.Region != "eu" || got.Bounds["unlisted"].Region != "eu" {
		t.Errorf("hosted: region %q, bounds %v", got.Region, got.Bounds)
	}
	if got := c.model(t, "lmstudio/qwen").Bounds(); got != (catalog.Bounds{NearOnly: true}) {
		t.Errorf("lmstudio/qwen: %+v", got)
	}
	if got := c.model(t, "hosted/big").Bounds(); got != (catalog.Bounds{Region: "us"}) {
		t.Errorf("hosted/big: %+v", got)
	}
	if got := c.Proxy.Network; got.Offline != 0 || got.OfflineMax != 3*time.Second {
		t.Errorf("network: %+v", got)
	}
	if !c.backend(t, "lmstudio").NearSaid || c.backend(t, "hosted").NearSaid {
		t.Error("only what the file calls near is near by its word")
	}
}

// What discovery finds has its region and bounds, too.
func TestBoundsOfADiscoveredProvider(t *testing.T) {
	c := loaded(t, `{proxy: {providers: {ollama: {region: "ours"}}, models: {"ollama/secret": {nearOnly: true}}}}`)
	if c.Region("ollama") != "ours" || !c.Bounds("ollama")["secret"].NearOnly {
		t.Errorf("region %q, bounds %v", c.Region("ollama"), c.Bounds("ollama"))
	}
}
