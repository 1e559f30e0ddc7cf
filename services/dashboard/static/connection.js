// The event stream. EventSource reconnects by itself; after an HTTP error it stops, so this class reconnects.

const SILENT_MS = 6000; // the pulse comes every second
const RETRY_MS = 3000;

export class Connection {
  constructor(handlers) {
    this.handlers = handlers;
    this.heardMs = null;
    this.status = "connecting";
    this.open();
    setInterval(() => this.#watch(), 1000);
  }

  open() {
    this.source = new EventSource("/events");
    for (const name of ["snapshot", "delta", "pulse"]) {
      this.source.addEventListener(name, (event) => {
        this.heardMs = Date.now();
        this.#set("open");
        this.handlers[name](JSON.parse(event.data));
      });
    }
    this.source.addEventListener("error", () => {
      this.#set("lost");
      if (this.source.readyState === EventSource.CLOSED) setTimeout(() => this.open(), RETRY_MS);
    });
  }

  #watch() {
    if (this.status === "open" && Date.now() - this.heardMs > SILENT_MS) this.#set("lost");
  }

  #set(status) {
    if (status === this.status) return;
    this.status = status;
    this.handlers.status(status, this.heardMs);
  }
}
