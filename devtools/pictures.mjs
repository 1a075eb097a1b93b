// Takes one picture of a workflow on the canvas, after a run where the job asks for one. Argument: a job file, see
// pictures.py.
import fs from 'node:fs'

const MARGIN = 12 // pixels around the graph
const CORNER = [120, 140] // where the graph begins: beside the page's bars
const HEAD = 52 // of a node's title and badge, above its own position

const job = JSON.parse(fs.readFileSync(process.argv[2], 'utf-8'))
const { chromium } = await import(job.playwright)
const browser = await chromium.launch({
  executablePath: job.chromium,
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--mute-audio']
})
const page = await browser.newPage({ viewport: { width: 2000, height: 1500 } })
page.setDefaultTimeout(job.patience)
const until = (test) => page.waitForFunction(test, undefined, { timeout: job.patience, polling: 200 })

async function open() {
  const settings = {
    'Comfy.TutorialCompleted': true,
    'Comfy.Minimap.Visible': false,
    'Comfy.Graph.CanvasInfo': false,
    'Comfy.VueNodes.Enabled': false
  }
  const headers = { 'Content-Type': 'application/json' }
  await fetch(`${job.url}/settings`, { method: 'POST', headers, body: JSON.stringify(settings) })
  await page.goto(job.url, { waitUntil: 'commit' })
  await until(() => window.app?.extensionManager && window.app.canvas && window.app.graph)
  await page.waitForTimeout(1500)
  await page.evaluate((graph) => window.app.loadGraphData(graph), job.graph)
  await page.waitForTimeout(1000)
  await page.keyboard.press('Escape') // a dialog about model files that this machine does not have
}

/** The finished video stands at its second second. */
async function run() {
  await page.evaluate(() => {
    const api = window.app.api ?? window.comfyAPI.api.api
    window.ended = null
    for (const kind of ['execution_success', 'execution_error', 'execution_interrupted'])
      api.addEventListener(kind, ({ detail }) => { window.ended = `${kind} ${detail?.exception_message ?? ''}`.trim() })
  })
  await page.locator('[data-testid="queue-button"], .comfyui-queue-button button').first().click()
  await until(() => window.ended)
  const ended = await page.evaluate(() => window.ended)
  if (ended !== 'execution_success') throw new Error(ended)
  await until(() => [...document.querySelectorAll('video')].some((video) => (video.currentSrc || video.src).includes('/view') && video.readyState >= 2))
  await page.evaluate(() => {
    for (const video of document.querySelectorAll('video')) {
      video.pause()
      video.currentTime = 1.4
    }
  })
  await page.waitForTimeout(1500)
}

/** Lay the graph into the corner; gives the rectangle that it takes on the page. */
const place = () => page.evaluate(({ corner, head, margin, scale }) => {
  const nodes = window.app.graph.nodes
  const edge = (choose, axis, far) => choose(...nodes.map((node) => node.pos[axis] + (far ? node.size[axis] : 0)))
  const [left, top] = [edge(Math.min, 0), edge(Math.min, 1) - head]
  const [right, bottom] = [edge(Math.max, 0, true), edge(Math.max, 1, true)]
  const canvas = window.app.canvas
  const box = canvas.canvas.getBoundingClientRect()
  canvas.ds.scale = scale
  canvas.ds.offset[0] = (corner[0] - box.left) / scale - left
  canvas.ds.offset[1] = (corner[1] - box.top) / scale - top
  canvas.setDirty(true, true)
  return {
    x: corner[0] - margin, y: corner[1] - margin,
    width: (right - left) * scale + 2 * margin, height: (bottom - top) * scale + 2 * margin
  }
}, { corner: CORNER, head: HEAD, margin: MARGIN, scale: job.scale })

await open()
await place()
if (job.run) await run()
const clip = await place()
await page.mouse.move(5, 1400)
await page.waitForTimeout(1500)
for (const path of job.pictures) await page.screenshot({ path, clip, animations: 'disabled' })
await browser.close()
