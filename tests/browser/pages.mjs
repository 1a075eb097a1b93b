// A page in Chinese: a reload in the middle of a run, a run that is half answered from the cache, settings, About.
// Prints what was seen as one line of JSON. Argument: a job file, see test_pages.py.
import fs from 'node:fs'

const job = JSON.parse(fs.readFileSync(process.argv[2], 'utf-8'))
const { chromium } = await import(job.playwright)
const browser = await chromium.launch({
  executablePath: job.chromium,
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--mute-audio', '--disable-features=Translate']
})
const page = await browser.newPage({ viewport: { width: 1360, height: 800 } })
page.setDefaultTimeout(job.patience)
const errors = []
page.on('console', (message) => {
  if (message.type() === 'error') errors.push(`${message.text().slice(0, 300)} @ ${message.location().url}`)
})
page.on('pageerror', (error) => errors.push(`page error: ${String(error.stack ?? error).slice(0, 600)}`))

const started = Date.now()
const say = (...words) => console.error(((Date.now() - started) / 1000).toFixed(1), ...words)
const picture = (name) => page.screenshot({ path: `${job.pictures}/pages_${name}.png`, animations: 'disabled' })
const command = (id) => page.evaluate((id) => window.app.extensionManager.command.execute(id), id)
const until = (test, argument) => page.waitForFunction(test, argument, { timeout: job.patience, polling: 200 })

async function prepare() {
  const settings = {
    'Comfy.TutorialCompleted': true,
    'Comfy.Locale': 'zh',
    'Comfy.Minimap.Visible': false,
    'Comfy.Graph.CanvasInfo': false,
    'Comfy.VueNodes.Enabled': true,
    'LiteGraph.Canvas.MaximumFps': 5
  }
  const headers = { 'Content-Type': 'application/json' }
  const answer = await fetch(`${job.url}/settings`, { method: 'POST', headers, body: JSON.stringify(settings) })
  if (!answer.ok) throw new Error(`settings: ${answer.status}`)
}

/** After a load or a reload: the page is there, and listens. */
async function ready() {
  await until(() => window.app?.extensionManager && window.app.canvas && window.app.graph)
  await page.waitForTimeout(1500)
  await page.evaluate(() => {
    const api = window.app.api ?? window.comfyAPI.api.api
    window.ended = null
    for (const kind of ['execution_success', 'execution_error', 'execution_interrupted'])
      api.addEventListener(kind, ({ detail }) => { window.ended = `${kind} ${detail?.exception_message ?? ''}`.trim() })
  })
}

async function run() {
  await page.evaluate(() => { window.ended = null })
  await page.locator('[data-testid="queue-button"], .comfyui-queue-button button').first().click()
}

/** Until the player plays. */
async function playing() {
  await until(() => window.ended || document.querySelector('.talkstream-player video')?.currentTime > 0.2)
  return page.evaluate(() => ({
    end: window.ended,
    time: document.querySelector('.talkstream-player video')?.currentTime ?? -1,
    words: document.querySelector('.talkstream-player')?.innerText ?? '',
    means: document.querySelector('.talkstream-player button')?.title ?? ''
  }))
}

/** Finish now, and the video on the node. */
async function finish() {
  await page.locator('.talkstream-player button').first().click()
  await until(() => window.ended)
  await until(() => [...document.querySelectorAll('video')].some((video) => (video.currentSrc || video.src).includes('/view') && video.readyState >= 1))
  await page.waitForTimeout(700)
  return page.evaluate(() => ({ end: window.ended, players: document.querySelectorAll('.talkstream-player').length }))
}

/** What our nodes are called and say, by class. */
const nodes = () => page.evaluate(() => Object.fromEntries(window.app.graph.nodes
  .filter((node) => node.type.startsWith('TalkStream'))
  .map((node) => [node.type, {
    title: node.title,
    widgets: (node.widgets ?? []).map((widget) => widget.label ?? widget.name),
    inputs: node.inputs.map((input) => input.localized_name ?? input.label ?? input.name),
    text: String((node.widgets ?? []).find((widget) => widget.name.includes('text-preview'))?.value ?? '')
  }])))

async function settings() {
  await command('Comfy.ShowSettingsDialog')
  const dialog = page.locator('[data-testid="settings-dialog"]')
  await dialog.getByText('TalkStream', { exact: true }).first().click()
  await dialog.getByText('GB').first().waitFor()
  const text = await dialog.innerText()
  await picture('settings')
  await dialog.getByText(/^(关于|About)$/).first().click()
  await page.locator('[data-testid="about-panel"]').waitFor()
  await page.waitForTimeout(700)
  const badges = await page.locator('[data-testid="about-panel"] a').evaluateAll((links) => links.map((link) => [link.innerText.trim(), link.href]))
  await picture('about')
  await page.keyboard.press('Escape')
  return { text, badges }
}

const seen = { errors }
try {
  await prepare()
  await page.goto(job.url, { waitUntil: 'commit' })
  await ready()
  say('page is there')
  await page.evaluate(async (graph) => { await window.app.loadGraphData(graph) }, job.graph)
  await page.waitForTimeout(500)
  await command('Comfy.Canvas.FitView')
  seen.nodes = await nodes()
  seen.settings = await settings()
  say('settings', JSON.stringify(seen.settings))
  await run()
  seen.before = await playing()
  say('before', JSON.stringify(seen.before))
  await page.reload({ waitUntil: 'commit' })
  await ready()
  seen.after = await playing()
  await picture('reloaded')
  say('after', JSON.stringify(seen.after))
  seen.finished = await finish()
  await picture('finished')
  say('finished', JSON.stringify(seen.finished))
  await page.reload({ waitUntil: 'commit' })
  await ready()
  await run()
  seen.again = await playing()
  seen.finishedAgain = await finish()
  seen.cached = await nodes()
  await picture('cached')
  say('again', JSON.stringify(seen.again), JSON.stringify(seen.finishedAgain))
} catch (error) {
  seen.failure = String(error.stack ?? error)
  await picture('failure').catch(() => {})
}
console.log(JSON.stringify(seen))
await browser.close()
