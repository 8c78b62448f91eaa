// Browsers start no worker from a file. For the search, a hidden frame does what one would.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = Object.assign(document.createElement("iframe"), { hidden: true });
      document.body.append(this.frame);
      const inside = this.frame.contentWindow;
      window.addEventListener("message", (event) => {
        if (event.source !== inside) return;
        const message = new MessageEvent("message", { data: event.data });
        this.dispatchEvent(message);
        this.onmessage?.(message);
      });
      this.ready = new Promise((resolve) => {
        const page = inside.document;
        page.open();
        page.write(
          "<script>" +
            "postMessage = (data) => parent.postMessage(data, '*');" +
            "importScripts = (...urls) => urls.reduce((before, url) => before.then(() => new Promise((loaded) => {" +
            "  document.body.append(Object.assign(document.createElement('script'), { src: url, onload: loaded }));" +
            "})), Promise.resolve());" +
            "<\/script>",
        );
        const script = Object.assign(page.createElement("script"), { src: url, onload: resolve });
        (page.body ?? page.documentElement).append(script);
        page.close();
      });
    }

    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
