// @ts-check
/** The player on Save Stream while it writes: a DOM widget that comes with the run and goes with it. */

import { GrowingVideo } from './growing_video.js'
import { words } from './words.js'

export const WIDGET_NAME = 'talkstream_player'
const MINIMUM_HEIGHT = 240

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
   * @param {string} locale
   */
  constructor(node, file, api, locale) {
    this.node = node
    this.file = file
    this.api = api
    this.words = words(locale)
    const { element, video, note } = build(this.words)
    this.element = element
    this.note = note
    const size = [...node.size]
    this.widget = node.addDOMWidget(WIDGET_NAME, 'talkstream_player', element, {
      serialize: false,
      hideOnZoom: false,
      getMinHeight: () => MINIMUM_HEIGHT,
      getValue: () => '',
      setValue: () => {}
    })
    this.widget.serialize = false
    const [, wanted] = node.computeSize()
    node.setSize([size[0], Math.max(size[1], wanted)])
    node.setDirtyCanvas?.(true, true)
    this.playing = new GrowingVideo(video, (start) => this.read(start), (error) => this.say(String(error)))
  }

  /** Takes the widget off the node again. */
  remove() {
    this.playing.remove()
    if (this.node.widgets?.includes(this.widget)) this.node.removeWidget(this.widget)
    this.element.remove()
    this.node.setDirtyCanvas?.(true, true)
  }

  /** @param {number} start @returns {Promise<Uint8Array>} */
  async read(start) {
    const answer = await this.api.fetchApi(path(this.file), { headers: { Range: `bytes=${start}-` } })
    if (answer.status === 204) return new Uint8Array()
    if (!answer.ok) throw new Error(await sentence(answer))
    return new Uint8Array(await answer.arrayBuffer())
  }

  /** @param {string} text */
  say(text) {
    this.note.textContent = text
  }
}

/** @param {GrowingFile} file @returns {string} */
export function path(file) {
  const [prompt, node] = [file.prompt_id, file.node_id].map(encodeURIComponent)
  return `/talkstream/growing/${prompt}/${node}`
}

/** @param {Response} answer @returns {Promise<string>} what the server says about a refusal */
async function sentence(answer) {
  try {
    return (await answer.json()).error
  } catch {
    return `${answer.status} ${answer.statusText}`
  }
}

/** @param {Record<string, string>} texts */
function build(texts) {
  const element = document.createElement('div')
  element.className = 'talkstream-player'
  const video = document.createElement('video')
  Object.assign(video, { controls: true, playsInline: true })
  const bar = document.createElement('div')
  bar.className = 'talkstream-player-bar'
  const note = document.createElement('span')
  note.textContent = texts.live
  bar.append(note)
  element.append(video, bar)
  return { element, video, bar, note }
}
