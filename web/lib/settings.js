// @ts-check
/** What the user can set; names and tooltips in other languages are in locales/. */

export const PLAY = 'TalkStream.Player.Enabled'

export const SETTINGS = [
  {
    id: 'TalkStream.Player.Enabled',
    category: ['TalkStream', 'Player', 'Enabled'],
    name: 'Play the video on Save Stream while it is being made',
    tooltip: 'With its sound. Off: the video appears when it is finished.',
    type: 'boolean',
    defaultValue: true
  }
]
