// Plays one user in Chromium and prints what was seen as one line of JSON. Argument: a job file, see test_browser.py.
import fs from 'node:fs'

const job = JSON.parse(fs.readFileSync(process.argv[2], 'utf-8'))
const { chromium } = await import(job.playwright)
const started = Date.now()
const say = (...words) => console.error(((Date.now() - started) / 1000).toFixed(1), ...words)

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

const picture = (name) => page.screenshot({ path: `${job.pictures}/${job.renderer}_${name}.png`, animations: 'disabled' })
const command = (id) => page.evaluate((id) => window.app.extensionManager.command.execute(id), id)
const until = (test, argument) => page.waitForFunction(test, argument, { timeout: job.patience, polling: 100 })

/** Settings before the page is there: no tour, few pictures per second of the canvas, the renderer that is meant. */
async function prepare() {
  const settings = {
    'Comfy.TutorialCompleted': true,
    'Comfy.Minimap.Visible': false,
    'Comfy.Graph.CanvasInfo': false,
    'Comfy.VueNodes.Enabled': job.renderer === 'nodes2',
    'LiteGraph.Canvas.MaximumFps': 5
  }
  const headers = { 'Content-Type': 'application/json' }
  const answer = await fetch(`${job.url}/settings`, { method: 'POST', headers, body: JSON.stringify(settings) })
  if (!answer.ok) throw new Error(`settings: ${answer.status}`)
}

async function open() {
  await prepare()
  await page.goto(job.url, { waitUntil: 'commit' })
  await until(() => window.app?.extensionManager && window.app.canvas && window.app.graph)
  say('page is there')
  await page.waitForTimeout(1500)
  await page.evaluate(() => {
    const api = window.app.api ?? window.comfyAPI.api.api
    window.seen = { end: null, previews: {}, bars: {}, error: '' }
    window.textOfSave = () => {
      const save = window.app.graph.nodes.find((node) => node.type === 'TalkStreamSaveStream')
      return String(save.widgets.find((widget) => widget.name.includes('text-preview'))?.value ?? '')
    }
    for (const kind of ['execution_success', 'execution_error', 'execution_interrupted'])
      api.addEventListener(kind, ({ detail }) => Object.assign(window.seen, { end: kind, error: detail?.exception_message ?? '' }))
    api.addEventListener('b_preview_with_metadata', ({ detail }) => {
      window.seen.previews[detail.nodeId] = (window.seen.previews[detail.nodeId] ?? 0) + 1
    })
    api.addEventListener('progress_state', ({ detail }) => {
      for (const [id, state] of Object.entries(detail.nodes)) if (state.max > 1) window.seen.bars[id] = state.value
    })
  })
}

async function openTemplate(name) {
  await page.evaluate(() => window.app.graph.clear()) // else the last template passes for this one
  await command('Comfy.BrowseTemplates')
  const search = page.getByPlaceholder(/Search/).first()
  await search.waitFor()
  await search.fill('talkstream')
  await page.getByText(name, { exact: true }).first().click()
  await until(() => window.app.graph.nodes.some((node) => node.type === 'TalkStreamSaveStream'))
  await page.waitForTimeout(1000)
  await command('Comfy.Canvas.FitView')
  await page.waitForTimeout(700)
  await picture(name)
  await page.keyboard.press('Escape') // a dialog about model files that this machine does not have
  return page.evaluate(() => ({
    nodes: window.app.graph.nodes.length,
    missing: window.app.graph.nodes.filter((node) => !window.LiteGraph.registered_node_types[node.type]).map((node) => node.type),
    widgets: window.app.graph.nodes.find((node) => node.type === 'TalkStreamSaveStream').widgets.map((widget) => widget.name)
  }))
}

async function load(graph) {
  await page.evaluate(async (graph) => { await window.app.loadGraphData(graph) }, graph)
  await page.waitForTimeout(500)
  await command('Comfy.Canvas.FitView')
}

const reset = () => page.evaluate(() => { window.seen = { end: null, previews: {}, bars: {}, error: '' } })

async function run(seed) {
  await reset()
  await page.evaluate((seed) => {
    window.app.graph.nodes.find((node) => node.type === 'TalkStreamStreamChunks').widgets.find((widget) => widget.name === 'seed').value = seed
  }, seed)
  await page.locator('[data-testid="queue-button"], .comfyui-queue-button button').first().click()
}

async function watchLive(name) {
  await until(() => {
    const video = document.querySelector('.talkstream-player video')
    return window.seen.end || (video && video.currentTime > 0.2 && video.webkitAudioDecodedByteCount > 0)
  })
  const first = await liveState()
  await until((time) => {
    const video = document.querySelector('.talkstream-player video')
    return window.seen.end || (video && video.currentTime > time + 0.3)
  }, first.time)
  const second = await liveState()
  await picture(name)
  return { first, second }
}

const liveState = () => page.evaluate(async () => {
  const video = document.querySelector('.talkstream-player video')
  const graph = await window.app.graphToPrompt()
  const save = graph.workflow.nodes.find((node) => node.type === 'TalkStreamSaveStream')
  return {
    end: window.seen.end,
    time: video?.currentTime ?? -1,
    muted: video?.muted,
    audioBytes: video?.webkitAudioDecodedByteCount ?? -1,
    frames: video?.getVideoPlaybackQuality().totalVideoFrames ?? -1,
    size: video ? [video.clientWidth, video.clientHeight] : [],
    savedValues: save.widgets_values,
    text: window.textOfSave(),
    queued: Object.keys(graph.output[save.id].inputs),
    ...structuredClone({ previews: window.seen.previews, bars: window.seen.bars })
  }
})

async function ending() {
  await until(() => window.seen.end)
  await page.waitForFunction(() => {
    const videos = [...document.querySelectorAll('video')].filter((video) => !video.closest('.talkstream-player'))
    return videos.some((video) => (video.currentSrc || video.src).includes('/view') && video.readyState >= 1)
  }, undefined, { timeout: job.patience }).catch(() => {})
  await page.waitForTimeout(1500)
  return page.evaluate(() => {
    const videos = [...document.querySelectorAll('video')].filter((video) => !video.closest('.talkstream-player'))
    const shown = videos.map((video) => ({ source: video.currentSrc || video.src, seconds: video.duration, ready: video.readyState, height: video.clientHeight }))
    return { ...structuredClone(window.seen), text: window.textOfSave(), shown, players: document.querySelectorAll('.talkstream-player').length }
  })
}

async function help() {
  await page.evaluate(() => {
    const node = window.app.graph.nodes.find((node) => node.type === 'TalkStreamSaveStream')
    window.app.canvas.selectItems([node])
    window.app.canvas.onSelectionChange?.(window.app.canvas.selected_nodes)
  })
  await page.locator('[data-testid="info-button"]').first().click()
  await page.getByText('goes on at the growing end').first().waitFor()
  await picture('help')
  return page.evaluate(() => document.body.innerText.match(/.*goes on at the growing end.*/)?.[0] ?? '')
}

const seen = { errors }
try {
  await open()
  if (job.templates) {
    seen.templates = {}
    for (const name of job.templates) seen.templates[name] = await openTemplate(name)
    say('templates', JSON.stringify(seen.templates))
  }
  await load(job.graph)
  await run(job.firstSeed)
  seen.live = await watchLive('running')
  say('live', JSON.stringify(seen.live))
  await page.locator('.talkstream-player button').first().click()
  seen.finished = await ending()
  await picture('finished')
  say('finished', JSON.stringify(seen.finished))
  await run(job.firstSeed + 1)
  seen.liveAgain = await watchLive('running_again')
  await command('Comfy.Interrupt')
  seen.stopped = await ending()
  await picture('stopped')
  say('stopped', JSON.stringify(seen.stopped))
  seen.help = await help()
  say('help', seen.help.slice(0, 80))
} catch (error) {
  seen.failure = String(error.stack ?? error)
  seen.state = await liveState().catch(() => null)
  await picture('failure').catch(() => {})
}
console.log(JSON.stringify(seen))
await browser.close()
