// @ts-check
/** Plays an MP4 that is still being written: reads what is new, appends it, goes on at the growing edge. */

import { headLength, mimeType } from './mp4.js'

const PAUSE_MILLISECONDS = 300
const AHEAD_SECONDS = 60
const BEHIND_SECONDS = 30

/**
 * @callback Read
 * @param {number} start first byte that is wanted
 * @returns {Promise<Uint8Array>} what is there from that byte on; empty where nothing is new
 */

export class GrowingVideo {
  /** @param {HTMLVideoElement} video @param {Read} read @param {(error: unknown) => void} failed */
  constructor(video, read, failed) {
    this.video = video
    this.read = read
    this.removed = false
    this.offset = 0
    this.head = new Uint8Array()
    this.source = new MediaSource()
    /** @type {SourceBuffer | null} */
    this.buffer = null
    this.url = URL.createObjectURL(this.source)
    video.src = this.url
    this.run().catch((error) => {
      if (!this.removed) failed(error)
    })
  }

  /** Stops reading and frees the picture. */
  remove() {
    this.removed = true
    this.video.pause()
    this.video.removeAttribute('src')
    this.video.load()
    URL.revokeObjectURL(this.url)
  }

  async run() {
    while (!this.removed) {
      const bytes = this.ahead() < AHEAD_SECONDS ? await this.read(this.offset) : new Uint8Array()
      if (this.removed) return
      if (bytes.length) {
        this.offset += bytes.length
        await this.add(bytes)
        this.follow()
      } else {
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MILLISECONDS))
      }
    }
  }

  /** Seconds that are ready to be shown. */
  ahead() {
    const { buffered, currentTime } = this.video
    return buffered.length ? buffered.end(buffered.length - 1) - currentTime : 0
  }

  /** @param {Uint8Array} bytes the next ones of the file */
  async add(bytes) {
    if (this.buffer) return this.append(bytes)
    const head = new Uint8Array(this.head.length + bytes.length)
    head.set(this.head)
    head.set(bytes, this.head.length)
    this.head = head
    const length = headLength(head)
    if (!length) return
    if (this.source.readyState !== 'open') await once(this.source, 'sourceopen')
    if (this.removed) return
    this.buffer = this.source.addSourceBuffer(mimeType(head.subarray(0, length)))
    this.head = new Uint8Array()
    await this.append(head)
  }

  /** @param {Uint8Array} bytes */
  async append(bytes) {
    const old = this.video.currentTime - BEHIND_SECONDS
    if (old > BEHIND_SECONDS) {
      this.buffer.remove(0, old)
      await once(this.buffer, 'updateend')
    }
    if (this.removed) return
    this.buffer.appendBuffer(bytes)
    await once(this.buffer, 'updateend')
  }

  /** Begins where the file begins; without permission for sound, which a reloaded page lacks, it begins muted. */
  follow() {
    const { video } = this
    if (video.dataset.begun || !video.buffered.length) return
    video.dataset.begun = 'true'
    video.currentTime = video.buffered.start(0)
    video.play().catch(() => {
      video.muted = true
      video.play().catch(() => {})
    })
  }
}

/** @param {EventTarget} target @param {string} event */
function once(target, event) {
  return new Promise((resolve) => target.addEventListener(event, resolve, { once: true }))
}
