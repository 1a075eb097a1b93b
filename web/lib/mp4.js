// @ts-check
/** What a growing MP4 says about itself before its first frame. Pure functions on bytes. */

/**
 * Length of the file's head, all boxes up to and including "moov"; 0 while it is not complete.
 * @param {Uint8Array} bytes beginning of the file
 * @returns {number}
 */
export function headLength(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let at = 0
  while (at + 8 <= bytes.length) {
    const size = view.getUint32(at)
    if (size < 8) throw new Error(`got a box of ${size} bytes at ${at}, expected an MP4 file`)
    const end = at + size
    if (boxName(bytes, at + 4) === 'moov') return end <= bytes.length ? end : 0
    at = end
  }
  return 0
}

/**
 * The MIME type with codecs that MediaSource wants.
 * @param {Uint8Array} head as measured by headLength
 * @returns {string}
 */
export function mimeType(head) {
  const codecs = []
  const avc = find(head, 'avcC')
  const vp9 = find(head, 'vpcC')
  if (avc >= 0) codecs.push(`avc1.${hex(head[avc + 5])}${hex(head[avc + 6])}${hex(head[avc + 7])}`)
  else if (vp9 >= 0) codecs.push(`vp09.${two(head[vp9 + 8])}.${two(head[vp9 + 9])}.${two(head[vp9 + 10] >> 4)}`)
  else throw new Error('the file has neither an H.264 nor a VP9 picture')
  if (find(head, 'mp4a') >= 0) codecs.push('mp4a.40.2')
  return `video/mp4; codecs="${codecs.join(', ')}"`
}

/** @param {Uint8Array} bytes @param {number} at */
function boxName(bytes, at) {
  return String.fromCharCode(...bytes.subarray(at, at + 4))
}

/** @param {Uint8Array} bytes @param {string} name @returns {number} where the name stands, or -1 */
function find(bytes, name) {
  const [a, b, c, d] = [...name].map((letter) => letter.charCodeAt(0))
  for (let i = 0; i + 16 <= bytes.length; i++)
    if (bytes[i] === a && bytes[i + 1] === b && bytes[i + 2] === c && bytes[i + 3] === d) return i
  return -1
}

/** @param {number} byte */
const hex = (byte) => byte.toString(16).padStart(2, '0')

/** @param {number} number */
const two = (number) => String(number).padStart(2, '0')
