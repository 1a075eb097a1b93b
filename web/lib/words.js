// @ts-check
/** The few texts that the page itself writes; everything else is in locales/. */

const WORDS = {
  en: {
    live: 'Being made',
    finish: 'Finish now',
    finishMeans: 'End after the current chunk and keep the video',
    finishing: 'Finishing after the current chunk'
  },
  zh: {
    live: '正在生成',
    finish: '立即完成',
    finishMeans: '在当前分块之后结束，并保留视频',
    finishing: '将在当前分块之后结束'
  }
}

/** @param {string} locale @returns {Record<string, string>} */
export function words(locale) {
  return locale.startsWith('zh') ? WORDS.zh : WORDS.en
}
