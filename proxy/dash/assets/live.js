// The feed of what happens: opened, kept open, opened again.

/**
 * Live keeps a connection to /proxy/live. It calls on.now, on.exchange and on.state
 * ({ state: connecting | live | lost | asleep, reason, retryAt }). A page that nobody
 * looks at lets go of its connection after a while.
 */
export class Live {
  constructor(on) {
    this.on = on;
    this.tries = 0;
    this.wanted = false;
    document.addEventListener('visibilitychange', () => this.seen());
    addEventListener('online', () => this.wanted && this.again());
  }

  start() {
    this.wanted = true;
    this.open();
  }

  stop() {
    this.wanted = false;
    this.shut();
  }

  /** again opens at once what is waited for. */
  again() {
    this.shut();
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    this.shut();
    if (!this.wanted) return;
    this.on.state({ state: 'connecting' });
    const es = (this.es = new EventSource('/proxy/live'));
    es.addEventListener('now', (e) => {
      this.tries = 0;
      this.beat(es);
      this.on.now(JSON.parse(e.data));
      this.on.state({ state: 'live' });
    });
    es.addEventListener('exchange', (e) => this.on.exchange(JSON.parse(e.data)));
    es.addEventListener('over', (e) => {
      const over = JSON.parse(e.data);
      if (this.es === es) this.lost(over.reason, over.signed_out);
    });
    es.onerror = () => this.es === es && this.lost();
    this.beat(es);
  }

  /** beat notices a connection that has gone quiet without an end. */
  beat(es) {
    clearTimeout(this.quiet);
    this.quiet = setTimeout(() => this.es === es && this.lost('nothing was heard for a while'), 15000);
  }

  async lost(reason, signedOut) {
    this.shut();
    if (!this.wanted) return;
    this.tries++;
    // A refusal says what is wrong; EventSource does not show it.
    let refusal = null;
    if (!signedOut && !reason) refusal = await this.on.why();
    if (!this.wanted || this.es) return;
    if (signedOut || refusal?.signedOut) {
      this.stop();
      this.on.signedOut();
      return;
    }
    const wait = Math.min(1000 * 2 ** Math.min(this.tries - 1, 5), 20000) * (0.8 + 0.4 * Math.random());
    this.on.state({ state: 'lost', reason: reason || refusal?.reason || '', retryAt: Date.now() + wait });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(), wait);
  }

  shut() {
    clearTimeout(this.quiet);
    clearTimeout(this.timer);
    if (this.es) this.es.close();
    this.es = null;
  }

  seen() {
    clearTimeout(this.sleep);
    if (!this.wanted) return;
    if (document.visibilityState === 'hidden') {
      this.sleep = setTimeout(() => {
        this.shut();
        this.on.state({ state: 'asleep' });
      }, 60000);
    } else if (!this.es) this.open();
  }
}
