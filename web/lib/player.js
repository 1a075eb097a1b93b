// @ts-check
/** The player on Save Stream while it writes: a DOM widget that comes with the run and goes with it. */

import { GrowingVideo } from './growing_video.js'
import { words } from './words.js'

export const WIDGET_NAME = 'talkstream_player'
const PLAYER_HEIGHT = 240
const BAR_HEIGHT = 52

/**
 * @typedef {object} GrowingFile as the server names it
 * @property {string} prompt_id
 * @property {string} node_id
 * @property {string} workflow_id
 */

export class Player {
  /**
   * @param {any} node Save Stream in the open graph
   * @param {GrowingFile} file
   * @param {{fetchApi: (path: string, options?: RequestInit) => Promise<Response>}} api
   * @param {{locale: string, play: boolean}} options play: with the picture, else only the button
   */
  constructor(node, file, api, { locale, play }) {
    this.node = node
    this.file = file
    this.api = api
    this.words = words(locale)
    const { element, video, note, button } = build(this.words, play)
    this.element = element
    this.note = note
    button.addEventListener('click', () => this.finish(button))
    const size = [...node.size]
    this.widget = node.addDOMWidget(WIDGET_NAME, 'talkstream_player', element, {
      serialize: false,
      hideOnZoom: false,
      getMinHeight: () => (play ? PLAYER_HEIGHT : BAR_HEIGHT),
      getValue: () => '',
      setValue: () => {}
    })
    this.widget.serialize = false
    const [, wanted] = node.computeSize()
    node.setSize([size[0], Math.max(size[1], wanted)])
    node.setDirtyCanvas?.(true, true)
    this.playing = video && new GrowingVideo(video, (start) => this.read(start), (error) => this.say(error))
  }

  /** Takes the widget off the node again. */
  remove() {
    this.playing?.remove()
    if (this.node.widgets?.includes(this.widget)) this.node.removeWidget(this.widget)
    this.element.remove()
    this.node.setDirtyCanvas?.(true, true)
  }

  /** @param {number} start @returns {Promise<Uint8Array>} */
  async read(start) {
    const answer = await this.api.fetchApi(path('growing', this.file), { headers: { Range: `bytes=${start}-` } })
    if (answer.status === 204) return new Uint8Array()
    if (!answer.ok) throw new Error(await sentence(answer))
    return new Uint8Array(await answer.arrayBuffer())
  }

  /** @param {HTMLButtonElement} button */
  async finish(button) {
    button.disabled = true
    this.note.textContent = this.words.finishing
    try {
      const answer = await this.api.fetchApi(path('finish', this.file), { method: 'POST' })
      if (!answer.ok) throw new Error(await sentence(answer))
    } catch (error) {
      button.disabled = false
      this.say(error)
    }
  }

  /** @param {unknown} error */
  say(error) {
    this.note.textContent = error instanceof Error ? error.message : String(error)
  }
}

/** @param {'growing' | 'finish'} route @param {GrowingFile} file @returns {string} */
function path(route, file) {
  return `/talkstream/${route}/${encodeURIComponent(file.prompt_id)}/${encodeURIComponent(file.node_id)}`
}

/** @param {Response} answer @returns {Promise<string>} what the server says about a refusal */
async function sentence(answer) {
  try {
    return (await answer.json()).error
  } catch {
    return `${answer.status} ${answer.statusText}`
  }
}

/** @param {Record<string, string>} texts @param {boolean} play */
function build(texts, play) {
  const element = document.createElement('div')
  element.className = 'talkstream-player'
  const video = play ? document.createElement('video') : null
  if (video) element.append(Object.assign(video, { controls: true, playsInline: true }))
  const note = Object.assign(document.createElement('span'), { textContent: texts.live })
  const button = Object.assign(document.createElement('button'), {
    type: 'button',
    textContent: texts.finish,
    title: texts.finishMeans
  })
  const bar = Object.assign(document.createElement('div'), { className: 'talkstream-player-bar' })
  bar.append(note, button)
  element.append(bar)
  return { element, video, note, button }
}
