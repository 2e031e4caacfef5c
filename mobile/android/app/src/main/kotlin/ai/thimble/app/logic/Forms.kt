package ai.thimble.app.logic

import kotlinx.serialization.Serializable

/** What the app can fill in. */
enum class FormKind {
    /** For the calendar. */
    EVENT,

    /** For the contacts. */
    CONTACT,
}

/** The fields that a model takes from a text. `null` where the text does not say it. */
sealed interface Form

/** Something to go to. */
@Serializable
data class EventForm(
    val title: String,
    val date: String?,
    val time: String?,
    val place: String?,
) : Form

/** Somebody to reach. */
@Serializable
data class ContactForm(
    val name: String,
    val phone: String?,
    val email: String?,
    val company: String?,
) : Form
