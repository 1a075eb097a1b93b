// @ts-check
/** The few texts that the page itself writes; everything else is in locales/. */

const WORDS = {
  en: { live: 'Being made' },
  zh: { live: '生成中' }
}

/** @param {string} locale @returns {Record<string, string>} */
export function words(locale) {
  return locale.startsWith('zh') ? WORDS.zh : WORDS.en
}
