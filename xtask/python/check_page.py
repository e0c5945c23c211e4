"""Uses the page of a running suite in headless Chromium, as a person would, and takes pictures of it.

    check_page.py CHROMIUM URL PHOTOGRAPH PICTURES EXAMPLE

CHROMIUM is the browser's program, URL the jpeg service, PHOTOGRAPH a file to drop on the page, PICTURES a folder, EXAMPLE where
examples/ask.html is served, which the suite allows. Prints what was checked; exit status 1 says what was not as it should be. Needs Python 3.10 and its standard library: the browser
is driven over a pipe (its DevTools protocol).
"""

import base64
import fcntl
import json
import os
import pathlib
import select
import subprocess
import sys
import tempfile
import time
import urllib.request

# Patience, not a promise: an unoptimised server on a busy machine takes seconds for a photograph.
PATIENCE_S = 180

LANES = ["jpeg", "onnx-http", "onnx-grpc", "trt-http", "trt-grpc"]


class Browser:
    """Chromium with one page open."""

    def __init__(self, program, profile):
        # Descriptors above those that the browser gets, which are 3 and 4.
        high = lambda pair: [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in pair]
        (theirs_in, self.out), (self.inp, theirs_out) = high(os.pipe()), high(os.pipe())

        def descriptors():
            os.dup2(theirs_in, 3)
            os.dup2(theirs_out, 4)

        flags = ["--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run"]
        flags += ["--disable-gpu", "--hide-scrollbars", "--disable-background-networking", "--disable-dev-shm-usage"]
        if os.geteuid() == 0:
            # The browser's sandbox does not work for root, whom containers have.
            flags.append("--no-sandbox")
        self.process = subprocess.Popen(
            [program, *flags, "about:blank"], preexec_fn=descriptors, pass_fds=(3, 4),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.buffer, self.count, self.session = b"", 0, None
        self.requests, self.complaints = [], []
        target = next(it for it in self("Target.getTargets")["targetInfos"] if it["type"] == "page")
        self.session = self("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Network", "Log", "DOM"]:
            self(f"{domain}.enable")

    def __call__(self, method, **parameters):
        """The result of a command."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise SystemExit(f"{method}: {answer['error']}")
                return answer["result"]

    def receive(self):
        """The next message. Events are noted."""
        while b"\0" not in self.buffer:
            if not select.select([self.inp], [], [], PATIENCE_S)[0]:
                raise SystemExit("the browser does not answer")
            read = os.read(self.inp, 1 << 20)
            if not read:
                raise SystemExit("the browser ended")
            self.buffer += read
        text, self.buffer = self.buffer.split(b"\0", 1)
        message = json.loads(text)
        parameters = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Runtime.exceptionThrown":
                details = parameters["exceptionDetails"]
                self.complaints.append(details.get("exception", {}).get("description", details["text"]))
            case "Log.entryAdded" if parameters["entry"]["level"] == "error":
                self.complaints.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
            case "Runtime.consoleAPICalled" if parameters["type"] == "error":
                self.complaints.append(str(parameters["args"]))
        return message

    def evaluate(self, expression):
        """The value of an expression in the page."""
        answer = self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise SystemExit(f"{expression}: {answer['exceptionDetails']['exception']['description']}")
        return answer["result"].get("value")

    def wait(self, what, expression):
        """Waits until an expression is true, and returns it."""
        until = time.monotonic() + PATIENCE_S
        while not (value := self.evaluate(expression)):
            if time.monotonic() > until:
                text = self.evaluate("document.body.innerText")
                raise SystemExit(f"not seen: {what}\n{text}\n{self.complaints}")
            time.sleep(0.1)
        return value

    def press(self, key, code, number):
        """Presses a key of the keyboard."""
        for kind in ["rawKeyDown", "keyUp"]:
            self("Input.dispatchKeyEvent", type=kind, key=key, code=code, windowsVirtualKeyCode=number)

    def drop(self, path):
        """Drops a file on the middle of the page's drop zone."""
        box = self.evaluate("(() => { const b = document.getElementById('drop').getBoundingClientRect();"
                            " return [b.x + b.width / 2, b.y + b.height / 2]; })()")
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ["dragEnter", "dragOver", "drop"]:
            self("Input.dispatchDragEvent", type=kind, x=box[0], y=box[1], data=data)

    def show(self, width, height, scheme):
        """Shows the page at this size, in light or dark colours."""
        phone = width < 600
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path):
        """Takes a picture of the whole page."""
        size = self("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def end(self):
        """Closes the browser."""
        self.session = None
        self("Browser.close")
        self.process.wait()


# What the cards of the lanes show, in the page's own words.
CARDS = """[...document.querySelectorAll('.lane')].map((card) => ({
    lane: card.dataset.lane,
    connection: card.dataset.connection,
    classes: [...card.querySelectorAll('.classes li span:first-child')].map((it) => it.textContent),
    facts: Object.fromEntries([...card.querySelectorAll('dt')].map((it) => [it.textContent, it.nextSibling.textContent])),
    transport: card.querySelectorAll('.bar-of')[0].getAttribute('aria-label') ?? '',
    compute: card.querySelectorAll('.bar-of')[1].getAttribute('aria-label') ?? '',
    failed: card.classList.contains('failed') ? card.querySelector('.note').textContent : null,
    total: card.querySelector('.total').textContent,
}))"""

# Whether every lane has an answer, and none is being asked.
ANSWERED = "document.querySelectorAll('.lane').length === 5 && [...document.querySelectorAll('.lane')]" \
    ".every((card) => card.querySelector('.total').textContent && !card.hasAttribute('aria-busy'))"


def check(holds, what):
    """Ends the check if something is not as it should be."""
    if not holds:
        raise SystemExit(f"wrong: {what}")


def answers(browser, what):
    """The cards, when all lanes have answered."""
    browser.wait(what, ANSWERED)
    cards = browser.evaluate(CARDS)
    check([card["lane"] for card in cards] == LANES, cards)
    return {card["lane"]: card for card in cards}


def classes(url, photograph):
    """The classes of a photograph by the jpeg lane itself."""
    with urllib.request.urlopen(f"{url}/classify?k=5", data=photograph.read_bytes()) as answer:
        found = json.load(answer)["classifications"][0]
    return [it.get("label", f"class {it['index']}") for it in found]


def use(browser, url, photograph):
    """Does what a person would do, and checks what there is to see."""
    browser.show(1400, 900, "light")
    browser("Page.navigate", url=f"{url}/")
    browser.wait("five lanes ready", "document.getElementById('server')?.textContent.includes('5 of 5 lanes ready')")
    answers(browser, "five answers about the first sample")
    print("five lanes ready, and asked about the sample")

    browser.drop(photograph)
    browser.wait("the dropped file's name", f"document.getElementById('said').textContent.startsWith({json.dumps(photograph.name)})")
    wanted = classes(url, photograph)
    for card in answers(browser, "five answers about the dropped photograph").values():
        check(card["classes"][:5] == wanted, f"{card} instead of {wanted}")
        check("infer" in card["compute"] and "network" in card["transport"], card)
        check(card["facts"]["ran on"], card)
        check(card["connection"] == "kept" and "connect " not in card["transport"], card)
    print("a photograph dropped: five answers with the classes of /classify")

    # By keyboard: the next choice of the switch.
    browser.evaluate("document.querySelector('input[value=kept]').focus()")
    browser.press("ArrowRight", "ArrowRight", 39)
    browser.wait("fresh connections", "document.querySelectorAll('.lane[data-connection=fresh]').length === 5")
    for card in answers(browser, "five answers over fresh connections").values():
        check("connect " in card["transport"], card)
    print("fresh connections, chosen by keyboard: each answer has the time of its connection")

    for payload, tensor in [("uint8", 150_528), ("fp32", 602_112)]:
        browser.evaluate(f"document.querySelector('input[value={payload}]').click()")
        browser.wait(payload, f"document.querySelector('[data-lane=trt-grpc] .facts').textContent.includes('{payload.upper()}')")
        cards = answers(browser, f"five answers to {payload}")
        for lane in LANES[1:]:
            kilobytes, unit, rest = cards[lane]["facts"]["sent"].replace("\u00a0", " ").split(" ", 2)
            check(unit == "kB" and rest.startswith(f"as {payload.upper()}"), cards[lane])
            # The tensor with its heads and frames.
            check(0 <= float(kilobytes) - tensor // 1000 <= 3, cards[lane])
            check("prepare" in cards[lane]["compute"], cards[lane])
        check("as JPEG" in cards["jpeg"]["facts"]["sent"], cards["jpeg"])
        check(len({card["classes"][0] for card in cards.values()}) == 1, cards)
    print("UINT8 and FP32: the bytes on the socket are those of the tensors")

    rate = "document.querySelector('#charts figure')"
    before = browser.wait("a first reading of the metrics", f"{rate}.querySelector('svg g path.line')?.getAttribute('d')")
    browser.evaluate("document.getElementById('again').focus()")
    browser.press(" ", "Space", 32)
    browser.wait("requests a second of every lane", f"[...{rate}.querySelectorAll('.now b')].length === 5 &&"
                 f" [...{rate}.querySelectorAll('.now b')].every((it) => Number(it.textContent) > 0)")
    browser.wait("the chart moves", f"{rate}.querySelector('svg g path.line').getAttribute('d') !== {json.dumps(before)}")
    for index, name in [(1, "p50"), (2, "p99")]:
        numbers = browser.evaluate(f"[...document.querySelectorAll('#charts figure')][{index}].querySelector('.now').innerText")
        check("–" not in numbers, f"{name}: {numbers}")
    rows = browser.evaluate("[...document.querySelectorAll('#models tr')].map((row) => row.innerText)")
    # A developer's repository has models that this server was not asked to load.
    rows = [row for row in rows if "on disk" not in row]
    check(len(rows) >= 3 and all("Provider" in row for row in rows), rows)
    print("asked again and again: the charts move, by lane")


def runs(browser):
    """Looks at one run, at its report, and at one run against another."""
    browser.wait("the list of runs", "document.getElementById('run').options.length >= 2")
    rows = "[...document.querySelectorAll('#cells tbody tr')].map((row) => row.innerText)"
    browser.wait("the cells of a run", f"{rows}.length >= 5")
    status = browser.evaluate("fetch(document.querySelector('#about a').href).then((answer) => answer.status)")
    check(status == 200, f"the whole report: status {status}")
    browser.evaluate("(() => { const other = document.getElementById('against'); other.selectedIndex = 2;"
                     " other.dispatchEvent(new Event('change')); })()")
    browser.wait("two runs side by side", f"{rows}.length >= 5 && {rows}.every((row) => row.includes('\u00d7'))")
    print("two runs of the benchmark, one against the other")


def pictures(browser, folder):
    """Takes pictures at two widths, light and dark."""
    for width, height in [(1400, 900), (390, 844)]:
        for scheme in ["light", "dark"]:
            browser.show(width, height, scheme)
            time.sleep(0.5)
            wide = browser.evaluate("document.documentElement.scrollWidth")
            check(wide <= width, f"the page is {wide} pixels wide on a screen of {width}")
            browser.picture(folder / f"page-{width}-{scheme}.png")
    print(f"pictures at 1400 and 390 pixels, light and dark, in {folder}")


def misuse(browser):
    """Drops what is no photograph."""
    browser.evaluate("document.getElementById('again').checked && document.getElementById('again').click()")
    browser.evaluate("document.querySelector('input[value=jpeg]').click()")
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        file.write(b"<script>alert(1)</script>")
        file.flush()
        seen = len(browser.complaints)
        browser.drop(file.name)
        browser.wait("five refusals", "[...document.querySelectorAll('.lane.failed .note')].filter((it) => it.textContent.includes('image')).length === 5")
        # The browser itself notes statuses of errors.
        browser.complaints[seen:] = [it for it in browser.complaints[seen:] if "status of 4" not in it and "status of 5" not in it]
    print("a file that is no photograph: each lane's own refusal")


def example(browser, url, photograph, page):
    """Asks from a page of another site, which the server allows, and from the same page under a name that it does not."""
    for address, wanted in [(page, "answered"), (page.replace("127.0.0.1", "localhost"), "does it run, with --allow-origin")]:
        browser("Page.navigate", url=f"{address}?lane={url}")
        browser.wait("the example", f"location.href.startsWith({json.dumps(address)}) && document.readyState === 'complete'")
        field = browser("Runtime.evaluate", expression="document.getElementById('photograph')")["result"]["objectId"]
        browser("DOM.setFileInputFiles", objectId=field, files=[str(photograph)])
        browser.wait(wanted, f"document.getElementById('note').textContent.includes({json.dumps(wanted)})")
        shown = browser.evaluate("[...document.querySelectorAll('#classes li')].map((it) => it.textContent.split(':')[0])")
        check(shown == (classes(url, photograph) if wanted == "answered" else []), shown)
    print("examples/ask.html: answered where the server allows its site, and refused elsewhere")


def main():
    program, url, photograph, folder, page = sys.argv[1:]
    photograph = pathlib.Path(photograph).resolve()
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        try:
            use(browser, url, photograph)
            runs(browser)
            pictures(browser, folder)
            misuse(browser)
        finally:
            browser.end()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        other = Browser(program, profile)
        try:
            example(other, url, photograph, page)
        finally:
            other.end()
    elsewhere = [it for it in browser.requests if not it.startswith((f"{url}/", "blob:", "about:"))]
    check(not elsewhere, f"requests to elsewhere: {elsewhere}")
    check(not browser.complaints, f"the browser complains: {browser.complaints}")
    print(f"{len(browser.requests)} requests, all to this server; no error in the browser's console")


if __name__ == "__main__":
    main()
