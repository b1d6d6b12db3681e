/* Dead letters: what is given up is a message of the dead-letter topic afterwards, or stays where it is: all that happens
 * is entered as possible before the operation, and looked at behind it. */
#ifndef FUZZ_DEAD_H
#define FUZZ_DEAD_H

#include "model.h"
#include "room.h"
#include "tape.h"

void draw_dead_topic(struct tape *t, mqshm_config *c);
bool becomes_letter(const struct message *m); /* when it is given up */
/* A leased message is given up. 1: it stays, for there is no room; 0: it does not; -1: it may. Enters may move: e is over. */
int letter_begins(struct sub *s, struct entry *e, uint32_t attempts, const char *reason);
/* A receive gives up what was delivered too often, as far as it meets it. */
void letters_begin(struct sub *s);
/* Who was about to died in it: what it was to drop for them may have been claimed. */
void letters_died(void);
/* After either, and after the burial of who died in it. */
void letters_end(void);

#endif
