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
  },
  {
    id: 'TalkStream.Takes.LimitGB',
    category: ['TalkStream', 'Takes', 'LimitGB'],
    name: 'Largest take on disk (GB)',
    tooltip:
      'The finished latents of a stream stay in the temp folder, so that another file name, VAE or quality needs no new run. A larger stream runs again.',
    type: 'number',
    attrs: { min: 0, max: 10000, step: 1 },
    defaultValue: 8
  },
  {
    id: 'TalkStream.SavedRuns.LimitGB',
    category: ['TalkStream', 'Saved runs', 'LimitGB'],
    name: 'Room for the states of interrupted runs (GB)',
    tooltip: 'From them the same graph goes on after a crash. The oldest are removed first. 0 saves none.',
    type: 'number',
    attrs: { min: 0, max: 10000, step: 1 },
    defaultValue: 20
  }
]
