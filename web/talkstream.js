// @ts-check
/** What the pack adds to the page: a player on every Save Stream that is writing, settings, and a badge. */

import { api } from '/scripts/api.js'
import { app } from '/scripts/app.js'

import { Player } from './lib/player.js'
import { PLAY, SETTINGS } from './lib/settings.js'

const SAVE_STREAM = 'TalkStreamSaveStream'
const ENDS = ['execution_success', 'execution_error', 'execution_interrupted']

/** @type {Map<string, import('./lib/player.js').GrowingFile>} */
const growing = new Map()
/** @type {Map<string, Player>} */
const players = new Map()

/** @param {{prompt_id: string, node_id: string}} file */
const keyOf = (file) => `${file.prompt_id} ${file.node_id}`

/**
 * The node of an execution id such as "8", or "5:1" inside a subgraph.
 * @param {string} id
 */
function nodeOf(id) {
  let graph = app.rootGraph ?? app.graph
  const steps = id.split(':')
  for (const step of steps.slice(0, -1)) graph = graph?.getNodeById(step)?.subgraph
  const last = steps[steps.length - 1]
  return graph?.getNodeById(last) ?? graph?.getNodeById(Number(last)) ?? null
}

/** Gives every file of the open graph its player, and takes away those whose file or node is gone. */
function arrange() {
  const workflow = (app.rootGraph ?? app.graph)?.id
  for (const [key, player] of players)
    if (!growing.has(key) || nodeOf(player.file.node_id) !== player.node) drop(key)
  const setting = app.extensionManager.setting
  const options = { play: setting.get(PLAY), locale: setting.get('Comfy.Locale') ?? 'en' }
  for (const [key, file] of growing) {
    const node = nodeOf(file.node_id)
    if (!players.has(key) && file.workflow_id === workflow && node?.comfyClass === SAVE_STREAM)
      players.set(key, new Player(node, file, api, options))
  }
}

/** @param {string} key */
function drop(key) {
  players.get(key)?.remove()
  players.delete(key)
}

/** @param {(file: import('./lib/player.js').GrowingFile) => boolean} ended */
function forget(ended) {
  for (const [key, file] of growing) if (ended(file)) growing.delete(key)
  arrange()
}

/** After a page or its connection came back: what this page has at work, and nothing that ended meanwhile. */
async function readGrowing() {
  const client = encodeURIComponent(api.clientId ?? api.initialClientId ?? '')
  const answer = await api.fetchApi(`/talkstream/growing?client_id=${client}`)
  const files = await answer.json()
  growing.clear()
  for (const file of files) growing.set(keyOf(file), file)
  arrange()
}

/**
 * A node that the host serves from its cache sends no text while it runs; its result holds the last line.
 * @param {{node: string | number, output?: {text?: string[]}}} result
 */
function showText({ node, output }) {
  const id = String(node)
  if (output?.text?.length && nodeOf(id)?.comfyClass?.startsWith('TalkStream'))
    api.dispatchCustomEvent('progress_text', { nodeId: id, text: output.text[0] })
}

function listen() {
  api.addEventListener('reconnected', readGrowing)
  api.addEventListener('talkstream.growing', ({ detail }) => {
    growing.set(keyOf(detail), detail)
    arrange()
  })
  api.addEventListener('executed', ({ detail }) => {
    showText(detail)
    forget((file) => file.prompt_id === detail.prompt_id && file.node_id === String(detail.node))
  })
  for (const end of ENDS)
    api.addEventListener(end, ({ detail }) => forget((file) => file.prompt_id === detail.prompt_id))
}

function addStyle() {
  const link = document.createElement('link')
  link.rel = 'stylesheet'
  link.href = new URL('./talkstream.css', import.meta.url).href
  document.head.append(link)
}

app.registerExtension({
  name: 'TalkStream',
  settings: SETTINGS,
  aboutPageBadges: [
    {
      label: 'TalkStream 0.1.0',
      url: 'https://registry.comfy.org/nodes/talkstream',
      icon: 'pi pi-video'
    }
  ],
  async setup() {
    addStyle()
    listen()
    await readGrowing()
  },
  afterConfigureGraph: arrange
})
